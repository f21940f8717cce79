"""Fast kernels: the same integers as `BinaryGraph`'s oracle, at the machine's speed."""
