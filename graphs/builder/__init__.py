"""How a graph is written down and checked before anything runs.

Decides which wirings, options and subjects are accepted, and refuses all others with a `GraphError`. Imports
`nodes`, `nodes.program` and `nodes.state`; knows nothing of how a graph is run.
"""
