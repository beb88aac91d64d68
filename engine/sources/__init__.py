"""How sources are read: ahead of demand, from the position of a checkpoint, or through a journal.

Decides when a read belongs to the run. Knows no socket and no worker.
"""
