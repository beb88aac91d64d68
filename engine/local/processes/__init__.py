"""Starts, watches and ends child processes over a zygote.

Knows no run, no socket of a run and no task; imports the errors in `nodes` only.
"""
