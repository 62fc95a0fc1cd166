"""Reading the authors' released checkpoints."""
