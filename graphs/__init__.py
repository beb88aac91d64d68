"""Ready-made graphs, to run and to copy; `graphs.builder` below is how graphs are written down.

Imports `graphs.builder` and `nodes`, as a user's own file would.
"""
