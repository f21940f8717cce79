"""Small Processes that work, fail, hang and die: what the supervised run has to cope with.

Process and models share this file, and nothing else lies in its folder: Lava executes every file beside a Process.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
from lava.magma.core.decorator import implements, requires
from lava.magma.core.model.py.model import PyAsyncProcessModel, PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Giver(AbstractProcess):
    """Sends its step number; misbehaves in the way and in the step it is told to."""

    def __init__(self, trouble: str = "", at: int = 0, shape: tuple[int, ...] = (3,), **kwargs: object) -> None:
        super().__init__(trouble=trouble, at=at, **kwargs)
        self.s_out = OutPort(shape=shape)


class Taker(AbstractProcess):
    """Adds what it receives to `total`; misbehaves in the way and in the step it is told to."""

    def __init__(self, trouble: str = "", at: int = 0, shape: tuple[int, ...] = (3,), **kwargs: object) -> None:
        super().__init__(trouble=trouble, at=at, **kwargs)
        self.a_in = InPort(shape=shape)
        self.total = Var(shape=shape, init=0)


class Loner(AbstractProcess):
    """Counts its steps by Lava's asynchronous protocol; misbehaves in the way and in the step it is told to."""

    def __init__(self, trouble: str = "", at: int = 0, **kwargs: object) -> None:
        super().__init__(trouble=trouble, at=at, **kwargs)
        self.count = Var(shape=(1,), init=0)


class BrighterThanMean(AbstractProcess):
    """A user's own encoder: a spike where a pixel is above the mean of its image. May misbehave as the others do."""

    def __init__(self, inputs: int, trouble: str = "", at: int = 0, **kwargs: object) -> None:
        super().__init__(trouble=trouble, at=at, **kwargs)
        self.a_in = InPort(shape=(1, inputs))
        self.s_out = OutPort(shape=(1, inputs))


class Unmodelled(AbstractProcess):
    """A Process without any ProcessModel."""

    def __init__(self) -> None:
        super().__init__()
        self.a_in = InPort(shape=(3,))


def misbehave(trouble: str) -> None:
    if trouble in ("raise before", "raise after"):
        raise ArithmeticError("the toy broke on purpose")
    if trouble == "raise what has no bytes":
        raise ArithmeticError("a lone surrogate: \udc80")
    if trouble == "exit":
        sys.exit("the toy left")
    if trouble == "vanish":
        os._exit(7)
    if trouble == "vanish quietly":
        os._exit(0)
    if trouble == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble == "spin":
        while True:
            pass
    if trouble == "sleep":
        time.sleep(1000)
    if trouble == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if trouble == "in compiled code":
        ctypes.PyDLL(None).sleep(1000)  # keeps Python's lock, so that no other thread of this process runs
    if trouble == "workers of its own":
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        program = subprocess.Popen(["sleep", "60"])
        print(worker.pid, program.pid, flush=True)
    if trouble == "torch":
        import torch

        torch.randn(700, 700) @ torch.randn(700, 700)


@implements(proc=Giver, protocol=LoihiProtocol)
@requires(CPU)
class GiverModel(PyLoihiProcessModel):
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict) -> None:
        super().__init__(proc_params)
        self.trouble, self.at = proc_params["trouble"], proc_params["at"]
        if self.trouble == "build":
            raise ArithmeticError("the toy could not be built")
        if self.trouble == "vanish at build":
            os._exit(9)
        if self.trouble == "hang at build":
            time.sleep(1000)

    def run_spk(self) -> None:
        if self.trouble == "slow":
            time.sleep(0.3)
        now = self.time_step == self.at
        if now and self.trouble != "raise after":
            misbehave(self.trouble)
        if now and self.trouble == "asks to stop":
            self._req_stop = True
        if now and self.trouble == "asks to pause":
            self._req_pause = True
        self.s_out.send(np.full(self.s_out.shape, self.time_step))
        if now:
            misbehave(self.trouble)


@implements(proc=Taker, protocol=LoihiProtocol)
@requires(CPU)
class TakerModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    total: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: dict) -> None:
        super().__init__(proc_params)
        self.trouble, self.at = proc_params["trouble"], proc_params["at"]

    def run_spk(self) -> None:
        self.total += self.a_in.recv()
        if self.time_step == self.at:
            misbehave(self.trouble)


@implements(proc=BrighterThanMean, protocol=LoihiProtocol)
@requires(CPU)
class BrighterThanMeanModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict) -> None:
        super().__init__(proc_params)
        self.trouble, self.at = proc_params["trouble"], proc_params["at"]

    def run_spk(self) -> None:
        pixels = self.a_in.recv()
        if self.time_step == self.at:
            misbehave(self.trouble)
        self.s_out.send((pixels > pixels.mean()).astype(np.int32))


@implements(proc=Loner, protocol=AsyncProtocol)
@requires(CPU)
class LonerModel(PyAsyncProcessModel):
    count: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: dict) -> None:
        super().__init__(proc_params)
        self.trouble, self.at = proc_params["trouble"], proc_params["at"]
        self.time_step = 0

    def run_async(self) -> None:
        for _ in range(self.num_steps):
            self.time_step += 1
            self.count += 1
            if self.time_step == self.at:
                misbehave(self.trouble)


def pair(trouble: str = "", at: int = 3, taker_trouble: str = "") -> tuple[Giver, Taker]:
    """A Giver connected to a Taker."""
    giver = Giver(trouble=trouble, at=at, name="giver")
    taker = Taker(trouble=taker_trouble, at=at, name="taker")
    giver.s_out.connect(taker.a_in)
    return giver, taker
