"""The commands, a file each. Each imports what it needs when it is called, so that ``--help`` is quick."""
