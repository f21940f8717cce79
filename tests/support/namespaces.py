"""Programs that see other mounts than the tests do: a full /dev/shm, a read-only installation."""

from __future__ import annotations

import subprocess

import pytest

OWN_MOUNTS = ["unshare", "--map-root-user", "--mount"]  # what follows may mount as it likes, and is alone in seeing it


def require_own_mounts() -> None:
    """Skip the test where the machine does not let a user have that."""
    try:
        subprocess.run([*OWN_MOUNTS, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine gives no mount namespace: {error}")
