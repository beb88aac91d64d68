"""Where a run goes on: what is kept at a cut, in which store, and what must be the same on resume.

Decides which graphs can have checkpoints. Knows no socket and no worker.
"""
