"""The page of a run: what the run shows of itself over HTTP, to people, to Prometheus and to who restarts services.

Decides what is shown, who may see it, and when a run counts as healthy. It looks at a run through `LiveRun` alone, from threads
of its own, and changes nothing of it; nobody but `engine/run.py` knows it, and only a run with `serve=` imports it. It imports
neither runners nor hub nor `engine/local`.
"""
