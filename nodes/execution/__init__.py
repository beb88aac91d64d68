"""Runs a program over a run of numbers, in whichever process has the events.

Decides in which order user code is called and to which number an exception belongs. Imports the contract,
`nodes.program` and `nodes.state`; knows nothing of tasks, sockets or workers.
"""
