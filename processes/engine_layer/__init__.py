"""Relay and neurons around Lava's `LearningDense`."""
