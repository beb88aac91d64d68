"""The command line: `run`, `plan`, `bench`, `checkpoints`.

Decides the words, the exit codes and what a person reads. Runs graphs through the public functions of `engine/run`
alone; imports no runner, core or hub.
"""
