"""The form in which a layer is computed, chosen by its settings."""

from __future__ import annotations

from lava_meta.online_learning.device_layer import DeviceLayer
from lava_meta.online_learning.learning_engine.layer import EngineLayer
from lava_meta.online_learning.neurons import State
from lava_meta.online_learning.reference import FixedLayer, FloatLayer, Layer
from lava_meta.online_learning.settings import LayerSettings
from lava_meta.rule import Constant
from lava_meta.rule.gates import closed_form


def make_layer(settings: LayerSettings, state: State, *, compiled: bool = False) -> Layer:
    """The layer, which works in place on `state`: floating point or integers, or as in Lava's learning engine.

    Each is the reference implementation, or the same compiled. A consolidation function that has no closed form has no
    compiled form in floating point.
    """
    if settings.engine_steps:
        return EngineLayer(settings, state, compiled=compiled)
    return (_compiled_form(settings) if compiled else _reference_form(settings))(settings, state)


def _reference_form(settings: LayerSettings) -> type[FixedLayer | FloatLayer]:
    if settings.precision == "float":
        return FloatLayer
    return FixedLayer if settings.device is None else DeviceLayer


def _compiled_form(settings: LayerSettings) -> type[FixedLayer | FloatLayer]:
    """Imported when it is needed: the kernels are compiled then."""
    if settings.precision == "float":
        gates = (settings.rule.consolidation, settings.rule.grow or Constant())
        if any(closed_form(f) is None for f in gates):
            return FloatLayer
        from lava_meta.online_learning.compiled.floating import CompiledFloatLayer

        return CompiledFloatLayer
    if settings.device is None:
        from lava_meta.online_learning.compiled.fixed import CompiledLayer

        return CompiledLayer
    from lava_meta.online_learning.compiled.device import CompiledDeviceLayer

    return CompiledDeviceLayer
