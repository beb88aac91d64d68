"""Every decision of a run: what has happened comes in as values, what is to be done goes out as effects.

Imports `nodes.dispatch`, `nodes.ordering` and `nodes.program` only: no socket, no process, no clock, no thread. The
simulations drive it.
"""
