"""From a file to pixels: reading, decoding, levels and sharpness."""
