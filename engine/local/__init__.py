"""The backend of local processes: children, sockets and shared memory joined behind `engine.hub.backend`.

The only part of the engine that knows sockets, processes and shared memory; another backend shares nothing of it. Only
`engine.runners.processes` imports it.
"""
