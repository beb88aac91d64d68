"""HTTP: polled interfaces and webhooks as sources, a server as a sink. Needs the extra `http`.

Decides what counts as delivered and what is tried again. Imports the contract only.
"""
