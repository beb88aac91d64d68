"""Released numbers to sinks and consumer, in the caller's thread.

Decides in which order the sinks are served, committed, closed or aborted. Knows no socket and no worker.
"""
