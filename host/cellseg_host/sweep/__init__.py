"""Many trainings to find the best settings: a grid or a search, stopped and gone on with at will, by many at once.

`space` reads what is searched, `study` trains it, `report` shows what came out.
"""
