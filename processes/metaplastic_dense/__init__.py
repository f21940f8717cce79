"""A dense layer that learns on-line."""
