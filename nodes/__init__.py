"""The contract that users plug into, and below it the pure parts of the engine.

Decides what an event, a source, a handler, a sink and a lock are. Opens no socket and starts no process, and imports
nothing of `graphs` and `engine`. The files here import none of the packages below.
"""
