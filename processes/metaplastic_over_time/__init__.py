"""A network that learns from spikes over time."""
