"""Processes through which whole batches enter and leave a running network, without Vars."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess

from lava_meta.processes.ring import Ring


class Source(AbstractProcess):
    """Sends one batch of `ring` a time step; waits for the next one if there is none yet.

    A batch that is not full is filled with its last row.

    Ports: `s_out`, int32, of the ring's shape.
    """

    def __init__(self, *, ring: Ring, name: str | None = None) -> None:
        super().__init__(ring=ring, name=name)
        self.s_out = OutPort(shape=ring.shape)


class PixelSource(AbstractProcess):
    """A `Source` whose port carries uint8: a quarter of the memory to move, for pixels of up to 8 bits."""

    def __init__(self, *, ring: Ring, name: str | None = None) -> None:
        super().__init__(ring=ring, name=name)
        self.s_out = OutPort(shape=ring.shape)


class Sink(AbstractProcess):
    """Puts what it receives in a time step into `ring`, as the ring's type; waits while the ring is full.

    Ports: `a_in`, any integers, of the ring's shape.
    """

    def __init__(self, *, ring: Ring, name: str | None = None) -> None:
        super().__init__(ring=ring, name=name)
        self.a_in = InPort(shape=ring.shape)
