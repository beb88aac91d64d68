"""What a node does: events, columns, steps, sources, sinks and the pure parts of ordering. No sockets, no processes."""
