"""Chains of binary layers: read as modules, folded into a `BinaryGraph`."""
