"""Many trainings to find the best settings: a grid or a search that may be stopped, continued and shared at any time.

`plan` reads the sweep's file and `space` its search, `explore` finds what a search can choose, `study` trains the
trials, `report` shows the results.
"""
