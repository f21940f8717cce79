"""A network of any form as stock Processes."""
