"""``python -m cellseg_host``, and the command ``cellseg-host``."""

from cellseg_device import startup


def main() -> None:
    """Run the command line."""
    startup.run("cellseg_host.cli")


if __name__ == "__main__":
    main()
