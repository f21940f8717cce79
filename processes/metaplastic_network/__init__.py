"""A whole network that learns on-line, as one Process."""
