"""The backend of local processes: children, sockets and shared memory joined behind `engine.hub.backend`.

The only part of the engine that knows sockets and processes. Another backend shares nothing of it.
"""
