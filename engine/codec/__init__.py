"""Events to payloads and back, exact in type and value.

Decides which encoding carries a batch. Knows no socket, no process and no worker.
"""
