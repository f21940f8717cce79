"""A network as one Process per layer."""
