"""A whole spiking network of any form as one Process."""
