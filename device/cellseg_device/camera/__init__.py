"""Cameras, and images from them at regular times: a source gives arrays, which then go the same way as files."""
