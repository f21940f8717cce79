"""Where a system cannot fork and has no POSIX locks: what stays in memory runs, and the rest says why it does not.

Windows itself is not at hand: the interpreter that runs this lacks the names that Windows' lacks.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

WINDOWS = """
import os, sys
for name in ("fork", "register_at_fork", "geteuid", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY"):
    if name == "register_at_fork":  # torch's and numpy's own parts of this system need it while they are imported
        import concurrent.futures.thread, logging, random, threading, numpy, torch
    delattr(os, name)
sys.modules["fcntl"] = None
"""


def printed(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", WINDOWS + textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_training_conversion_and_kernels_run():
    assert printed("""
        import torch
        import lava_meta
        from lava_meta.nn import BinaryMLP
        from lava_meta.optim import MetaplasticAdam

        torch.manual_seed(0)
        model = BinaryMLP([8, 16, 3])
        optimizer = MetaplasticAdam(model.parameters(), lr=0.01, m=1.0)
        x = torch.randint(0, 256, (40, 8), dtype=torch.uint8)
        for _ in range(3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), torch.arange(40) % 3).backward()
            optimizer.step()
        model.eval()
        net = lava_meta.convert(model)
        print((net.predict(x) == model(x).argmax(1).numpy()).all())
    """) == ["True"]


def test_what_needs_files_or_forks_says_so():
    answers = printed("""
        import numpy as np
        from lava_meta.converters.lava import LavaNetwork
        from lava_meta.graph import BinaryGraph, Readout
        from lava_meta.io.files import read_json

        graph = BinaryGraph((), Readout.from_weights(np.array([[1.0] * 8, [-1.0] * 8])), 255, (8,))

        def runs():
            import lava_meta.processes.runtime

        for call in (
            lambda: graph.save("net.safetensors"),
            lambda: read_json(__import__("os").__file__),
            lambda: LavaNetwork(graph, backend="lava").predict(np.ones((1, 8), np.uint8)),
            runs,
        ):
            try:
                call()
            except Exception as error:
                print(type(error).__name__, error)
    """)
    assert len(answers) == 4
    assert all("needs a POSIX system" in answer for answer in answers[:2])
    assert all("cannot fork processes" in answer and answer.startswith("LavaMissingError") for answer in answers[2:])
