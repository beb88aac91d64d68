"""The thread that tells the core what happened and carries out its effects.

Whoever runs workers is behind `backend.Backend`; sockets, processes and shared memory are unknown here.
"""
