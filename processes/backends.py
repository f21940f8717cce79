"""Where a network runs: in Lava on the CPU, in its simulation of Loihi 2, on a chip, or without Lava at all.

| backend | Processes | run configuration |
| --- | --- | --- |
| `kernels` | none: the compiled kernels, in the calling process, without Lava | none |
| `cpu` | the fast forms of this package | `Loihi2SimCfg(select_tag="fixed_pt")` |
| `loihi-sim` | stock Processes | `Loihi2SimCfg(select_tag="fixed_pt", select_sub_proc_model=True)` |
| `loihi` | stock Processes | `Loihi2HwCfg(select_tag="fixed_pt", select_sub_proc_model=True)` |

`loihi` needs Intel's extension of Lava and a chip. Neither was available to this project: what is tested of it is which
Processes and which configuration are chosen, and how they are wired.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lava_meta.errors import LavaMissingError, importable, require_lava
from lava_meta.graph import Graph
from lava_meta.loihi.stock import plan

if TYPE_CHECKING:
    from lava.magma.core.run_configs import RunConfig

BACKENDS = ("cpu", "kernels", "loihi-sim", "loihi")
# Of Intel's extension: the models of neuro cores, those of embedded CPUs, and the adapters between both and Python.
_EXTENSION = ("lava.magma.core.model.nc", "lava.magma.core.model.c", "lava.proc.embedded_io.spike")


def run_config(graph: Graph, backend: str) -> RunConfig:
    """Lava's run configuration of `backend`, once the network is known to fit it. Raises as `run` does."""
    check_backend(backend)
    if backend == "kernels":
        raise ValueError("the backend 'kernels' runs without Lava and has no run configuration")
    require_lava("A run configuration")
    from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg

    if backend == "cpu":
        return Loihi2SimCfg(select_tag="fixed_pt")
    plan(graph)
    config = Loihi2HwCfg if backend == "loihi" else Loihi2SimCfg
    return config(select_tag="fixed_pt", select_sub_proc_model=True)


def check_backend(backend: str) -> None:
    """Raises `ValueError` for an unknown backend, `LavaMissingError` for "loihi" without Intel's extension."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; choose one of {', '.join(BACKENDS)}")
    if backend != "loihi":
        return
    require_lava("The backend 'loihi'")
    missing = [name for name in _EXTENSION if not importable(name)]
    if missing:
        raise LavaMissingError(
            f"the backend 'loihi' needs a Loihi 2 chip and Intel's extension of Lava (lava-loihi, which Intel gives to "
            f"members of its Neuromorphic Research Community); {missing[0]} is not installed. The backend 'loihi-sim' "
            "runs the same Processes on the CPU, with the same integers"
        )
