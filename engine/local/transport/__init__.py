"""Messages between the calling process and its children: their form, the sockets, the shared memory, status pages.

Imports the codec and the values of `engine.tasks`; starts no process and decides nothing about a run.
"""
