"""What a run reports: its figures, its progress, and failures of other processes as the caller's exceptions.

Reads counters and values of the core and decides nothing about the run. Imports neither runners nor `engine/local`.
"""
