"""How the labelled source runs on the CPU; one model serves both forms, since nothing is computed."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from lava_meta.errors import DataError
from lava_meta.processes.labelled_source.process import LabelledSource


@implements(proc=LabelledSource, protocol=LoihiProtocol)
@requires(CPU)
class LabelledSourceModel(PyLoihiProcessModel):
    """Sends the next images and labels."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    label_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    position: np.ndarray = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.images = proc_params["images"]
        self.labels = proc_params["labels"]
        self.steps = proc_params["steps"]

    def run_spk(self) -> None:
        start = int(self.position[0])
        end = start + self.s_out.shape[0]
        if end > len(self.images):
            raise DataError(
                f"the source has {len(self.images)} images, and step {self.time_step} wants {start + 1} to {end}: "
                "run fewer steps, or set its position to 0"
            )
        self.s_out.send(self.images[start:end].astype(np.int32))
        self.label_out.send(self.labels[start:end].astype(np.int32))
        if self.time_step % self.steps == 0:
            self.position[0] = end
