"""Summing up all images of an output folder: tables and figures."""
