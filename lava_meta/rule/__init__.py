"""The plasticity rule, declared once: consolidation functions, one pure update, gates from measurements, lowering.

`lava_meta.rule.consolidation` declares, `measured` reads a gate from a device's measurements, `lowering` writes the
strings of Lava's learning engine.
"""

from lava_meta.rule.consolidation import (
    BUILT_IN,
    CONSOLIDATIONS,
    Consolidation,
    Constant,
    Exponential,
    Linear,
    PlainFunction,
    Quadratic,
    Table,
    Tanh2,
    Towards,
    as_consolidation,
    consolidation_from_dict,
    metaplastic_update,
    register_consolidation,
    sign,
)

__all__ = [
    "BUILT_IN",
    "CONSOLIDATIONS",
    "Consolidation",
    "Constant",
    "Exponential",
    "Linear",
    "PlainFunction",
    "Quadratic",
    "Table",
    "Tanh2",
    "Towards",
    "as_consolidation",
    "consolidation_from_dict",
    "metaplastic_update",
    "register_consolidation",
    "sign",
]
