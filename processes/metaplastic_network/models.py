"""How a learning network runs on the CPU in one actor; its settings say whether in floating or in fixed point."""

from __future__ import annotations

from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyAsyncProcessModel
from lava.magma.core.process.process import ProcessParameters
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol

from lava_meta.errors import DataError
from lava_meta.online_learning.backend import LocalEngine
from lava_meta.processes.metaplastic_network.process import MetaplasticNetwork


class LearningModel(PyAsyncProcessModel):
    """Learns one group of images per time step, by the compiled kernels.

    The groups of several time steps go into one call of a compiled loop, if there is one for this network: a call costs
    as much as a small network's images do.
    """

    engine_type: type[LocalEngine] = LocalEngine

    def __init__(self, proc_params: ProcessParameters) -> None:
        super().__init__(proc_params)
        self.engine = self.engine_type(proc_params["network"], proc_params["lanes"], compiled=True)
        self.images, self.labels = proc_params["images"], proc_params["labels"]
        self.progress = proc_params["progress"]
        self.time_step = 0  # for the supervisor, which watches its progress

    def run_async(self) -> None:
        lanes, done, most = self.engine.lanes, 0, self.engine.groups_a_call
        while done < self.num_steps:
            start = int(self.progress[0])
            whole = (len(self.images) - start) // lanes
            steps = max(1, min(most, self.num_steps - done, whole))
            end = start + steps * lanes
            self.time_step += steps
            if end > len(self.images):
                raise DataError(f"there are {len(self.images)} images, and step {self.time_step} wants {end}")
            try:
                self.progress[1] += self.engine.learn(self.images[start:end], self.labels[start:end])
            except ValueError:
                if steps == 1:
                    raise
                # Nothing of them is learned yet: one step after the other, for the one at fault to be named.
                self.time_step -= steps
                most = 1
                continue
            self.progress[0] = end
            done += steps


@implements(proc=MetaplasticNetwork, protocol=AsyncProtocol)
@requires(CPU)
class MetaplasticNetworkModel(LearningModel):
    """A network without time."""
