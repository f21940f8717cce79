"""A call of `Learner.fit` as a file, from which the same call goes on to the identical result.

It is the learner's own file, which `load_learner` reads, with the call in its header: what is learned and how, the
experiences learned so far, and the history until there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lava_meta.errors import RunFolderError
from lava_meta.online_learning.files import read_network
from lava_meta.online_learning.history import Run
from lava_meta.training.run_folder import differences

CALL = "fit"  # in the header
Write = Callable[[str | os.PathLike[str], dict[str, Any]], None]


class FitCheckpoint:
    """The file of a call.

    Args:
        path: of the file.
        seconds: at least so long between two times that it is written.
        run: where the call stands.
        call: what makes it the call that it is, JSON-ready.
        write: writes the learner to a path, with more in its header.
    """

    def __init__(self, path: Path, seconds: float, run: Run, call: dict[str, Any], write: Write) -> None:
        self.path, self.seconds, self.run, self._write = path, seconds, run, write
        self.call = json.loads(json.dumps(call))
        self._written = time.monotonic()

    def load(self) -> bool:
        """Let the run stand where the file says; False if there is none.

        Raises `RunFolderError` for the file of another call, or of a learner that is not in the middle of one.
        """
        if not self.path.exists():
            return False
        header, _ = read_network(self.path)
        if CALL in header:
            saved = json.loads(header[CALL])
            different = "; ".join(differences(saved["call"], self.call))
            if different:
                raise RunFolderError(f"{self.path} is of another fit, which this one cannot resume: {different}")
            self.run.load(saved["run"])
        elif header.get("under_way") is None:
            raise RunFolderError(f"{self.path} holds a learner that was not stopped: learn more with load(path).fit")
        return True

    def when_due(self) -> None:
        """Write it, unless that is not long ago."""
        if time.monotonic() - self._written >= self.seconds:
            self.write()

    def write(self) -> None:
        """Write it. Raises `TypeError` if probes gave what JSON cannot hold."""
        self._write(self.path, {CALL: json.dumps({"call": self.call, "run": self.run.to_dict()})})
        self._written = time.monotonic()
