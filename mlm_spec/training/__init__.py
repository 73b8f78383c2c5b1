"""Training, exactly: the encoder, the update and its checkpoints, in NumPy and float64."""
