"""Pixel sizes of objectives: measured from a stage micrometer, and stored."""
