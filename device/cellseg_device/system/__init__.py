"""The computer around the work: files, memory, hardware, rights and systemd."""
