"""The command `lava-meta`.

Exit codes: 0 done; 1 failed, with one line on standard error that says what and what to do; 2 the words on the command
line are off; 3 the networks were run but differ; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import os
import sys

from lava_meta.cli import (  # noqa: F401  (each adds its commands)
    bundle,
    experiments,
    lowering,
    networks,
    online,
    report,
    run,
    training,
    tune,
)
from lava_meta.cli.app import DEBUG, Stopped, app


def let_waiting_threads_sleep() -> None:
    """Keep OpenMP's threads from spinning while they wait, unless the environment says how they are to wait.

    On a machine with other work they take the cores from the threads that they wait for: a training step takes ten
    times as long. The runtimes of GNU, LLVM and Intel read the variables when torch is imported, so this comes first.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & {*os.environ}:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def main() -> None:
    """Run the command line; turn errors into one readable line and an exit code."""
    from lava_meta.errors import LavaMetaError

    let_waiting_threads_sleep()
    try:
        app()
    except Stopped as stop:
        print(f"lava-meta: {stop}", file=sys.stderr)
        raise SystemExit(130) from None
    except (LavaMetaError, OSError, ValueError, TypeError) as error:
        if DEBUG["on"]:
            raise
        kind = "" if isinstance(error, LavaMetaError | ValueError) else f"{type(error).__name__}: "
        print(f"lava-meta: {kind}{error}", file=sys.stderr)
        raise SystemExit(1) from None
