"""cellseg-device as a systemd service."""
