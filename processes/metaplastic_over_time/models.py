"""How a network that learns from spikes over time runs on the CPU in one actor."""

from __future__ import annotations

from lava.magma.core.decorator import implements, requires
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.async_protocol import AsyncProtocol

from lava_meta.online_learning.over_time_network import EngineOverTime
from lava_meta.processes.metaplastic_network.models import LearningModel
from lava_meta.processes.metaplastic_over_time.process import MetaplasticOverTime


@implements(proc=MetaplasticOverTime, protocol=AsyncProtocol)
@requires(CPU)
class MetaplasticOverTimeModel(LearningModel):
    """All time steps of an image in one of Lava's."""

    engine_type = EngineOverTime
