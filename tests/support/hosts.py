"""Hosts in network namespaces of their own, joined by a switch, whose cables can be pulled."""

from __future__ import annotations

import subprocess

import pytest

PORT = 8786


def require_own_networks() -> None:
    """Skip the test if this machine does not let us have them."""
    try:
        subprocess.run(
            ["unshare", "--net", "ip", "link", "add", "br0", "type", "bridge"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine gives no network namespaces: {error}")


class Hosts:
    """Hosts 10.0.0.1, 10.0.0.2, ... by their names. A host hears nothing but what comes over its cable."""

    def __init__(self, *names: str) -> None:
        self._held = {name: subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) for name in ("switch", *names)}
        for name in self._held:
            self._ip(name, "link set lo up")
        self._ip("switch", "link add br0 type bridge")
        self._ip("switch", "link set br0 up")
        for number, name in enumerate(names, 1):
            pid = self._held[name].pid
            self._ip("switch", f"link add port{number} type veth peer name eth0 netns {pid}")
            self._ip("switch", f"link set port{number} master br0 up")
            self._ip(name, f"addr add {self.address(name)}/24 dev eth0")
            self._ip(name, "link set eth0 up")

    def address(self, name: str) -> str:
        return f"10.0.0.{[*self._held].index(name)}"

    def on(self, name: str) -> tuple[str, ...]:
        """What to put before a command that is to run on a host."""
        return ("nsenter", "--net", "--target", str(self._held[name].pid))

    def pull_cable(self, name: str) -> None:
        """As a machine that is switched off: nothing says goodbye."""
        self._ip("switch", f"link set port{[*self._held].index(name)} down")

    def _ip(self, name: str, words: str) -> None:
        subprocess.run([*self.on(name), "ip", *words.split()], check=True)

    def end(self) -> None:
        for holder in self._held.values():
            holder.kill()
            holder.wait()
