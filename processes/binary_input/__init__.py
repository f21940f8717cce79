"""Signs of raw inputs."""
