"""``python -m cellseg_host``."""

from cellseg_host.cli import main

main()
