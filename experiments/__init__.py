"""Experiments of the paper and of this project, one file each, found by name on the command line."""
