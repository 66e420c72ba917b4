"""The commands, one file each: parse, call, print. Each imports what it needs, so that ``--help`` is quick."""
