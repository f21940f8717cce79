"""Towards the chip: layers as Lava's stock Processes within Loihi's ranges, and what a network costs there."""
