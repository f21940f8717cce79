"""The self-check: a converted network beside the model that it came from."""
