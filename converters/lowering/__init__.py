"""Networks of any acyclic form: a recorded run becomes the nodes of an `AcyclicGraph`."""
