"""The training loop and its parts: compiled steps, checkpoints, run directories, writers."""
