"""``python -m cellseg_device``."""

from cellseg_device.cli import main

main()
