"""Figures: one style, curves of experiments, pictures of networks."""
