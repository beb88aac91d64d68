"""Files as sources and sinks: text lines, JSON lines and CSV, compressed or not, and a file as a lock.

Decides where an event of a file begins and ends, what position resumes it, and when a written file is visible. Imports
the contract in `nodes` and `streams` below only.
"""
