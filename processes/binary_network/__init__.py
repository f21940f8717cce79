"""A whole network on packed bits as one Process."""
