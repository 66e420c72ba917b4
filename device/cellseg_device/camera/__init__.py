"""Cameras, and images from them at even times: a source gives arrays, all else is the road of a file."""
