"""Arrays into and out of a running network through shared memory."""
