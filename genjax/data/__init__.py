"""Data: sources of uint8 arrays, batches as a function of (seed, step), augmentation with keys."""
