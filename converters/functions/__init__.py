"""Functions of a node's integers: expressions, what can be proven of them, their steps and pieces."""
