"""Correcting an image's labels by hand: the edits, the maps that some of them grow from, and the work on one image."""
