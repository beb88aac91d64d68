"""The ways to run a plan: inline, in processes, or beginning in the calling thread.

Decides which of them a run takes and joins the parts for it.
"""
