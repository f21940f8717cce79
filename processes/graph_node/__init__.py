"""One node of a network of any form."""
