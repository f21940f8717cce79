"""`FixedOverTime`, whose passes are compiled: equal to the bit."""

from __future__ import annotations

from lava_meta.online_learning.compiled.fixed import CompiledLayer
from lava_meta.online_learning.over_time import FixedOverTime


class CompiledOverTime(FixedOverTime, CompiledLayer):
    """Integrating units above compiled passes over the synapses."""
