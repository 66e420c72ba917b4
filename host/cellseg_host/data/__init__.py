"""Datasets: the canonical format on disk, and the importers that write it."""
