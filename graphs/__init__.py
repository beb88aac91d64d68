"""How nodes are wired: Graph and Stream, their checks and drawings, and ready-made graphs to run and copy."""
