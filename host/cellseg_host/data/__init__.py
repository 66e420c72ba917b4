"""Datasets: the canonical one on disk, and the importers that make it."""
