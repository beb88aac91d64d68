"""The ways to run a plan: inline, in processes, or beginning in the calling thread.

Decides how a run is driven in its caller's thread. `processes` alone joins the hub and the local backend; the others
know no process. Imports neither `engine/run` nor the command line.
"""
