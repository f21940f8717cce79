"""A user's model as it is: called without being changed, and one run of it as the operations that it did."""
