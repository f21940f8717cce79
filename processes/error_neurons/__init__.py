"""The error of the readout, from sums and labels."""
