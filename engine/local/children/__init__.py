"""What runs inside a child process: a worker, an async worker, or the reader of a source.

Imports tasks, codec, sources and the transport; never the hub, the core or another part of `engine.local`.
"""
