"""From an image to its cells: tiles, network, labels, counts; on the CPU or an Edge TPU."""
