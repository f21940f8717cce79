"""The on-line rule in the arithmetic of Lava's learning engine."""
