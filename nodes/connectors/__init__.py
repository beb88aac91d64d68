"""Other systems as sources, sinks and locks; each is an optional extra with a folder of its own.

A folder has the same files everywhere: `api` (the public functions), `client`, `source`, `sink`, `lock`. A connector
imports the contract in `nodes` and its own folder, never another connector. The clock (`timer`) needs no extra.
"""
