"""Reading checkpoints of the authors' code."""
