"""``python -m cellseg_device``, and the command ``cellseg-device``."""

from cellseg_device import startup


def main() -> None:
    """Run the command line."""
    startup.run("cellseg_device.cli")


if __name__ == "__main__":
    main()
