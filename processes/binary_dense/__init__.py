"""A dense layer of binary weights, and the readout."""
