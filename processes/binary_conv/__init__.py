"""A binary convolution."""
