"""Images and labels from an array, one batch per time step."""
