"""A model: its file, its card and the interpreter that runs it."""
