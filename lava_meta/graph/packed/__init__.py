"""The compiled form of a `BinaryGraph`: the same integers from packed bits, at the speed of the machine."""
