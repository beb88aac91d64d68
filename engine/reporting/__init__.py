"""What a run tells: the figures, the progress, and the failures of other processes as the caller's errors.

Reads counters and values; decides nothing about the run.
"""
