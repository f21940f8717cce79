"""From a file to the learner in it, of whichever kind."""

from __future__ import annotations

import os

from lava_meta.online_learning import files
from lava_meta.online_learning.learner import Learner
from lava_meta.online_learning.over_time_learner import OVER_TIME, LearnerOverTime


def load_learner(path: str | os.PathLike[str], backend: str | None = None) -> Learner:
    """The learner that `save` wrote, in the identical state; `backend` replaces the one it was saved with.

    By default, one that learned in Lava goes on in the compiled kernels if Lava cannot be imported.

    Raises:
        FormatError: the file is not one, not as it was written, or its header declares what its tensors are not.
        TooLargeError: it does not fit in memory.
        ValueError: there is no such backend.
    """
    header, tensors = files.read_network(path)
    kind = LearnerOverTime if OVER_TIME in header else Learner
    return kind.restored(path, header, tensors, backend)
