"""Spiking networks: read as time steps, lowered to a `SteppedGraph`, run in Lava."""
