"""Training: from a dataset to a run with its weights, history and settings."""
