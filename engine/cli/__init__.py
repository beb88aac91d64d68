"""The command line: `run`, `plan`, `bench`, `checkpoints`.

Decides the commands and their options, the exit codes and what people read. Runs graphs through the public
functions of `engine/run` alone; imports no runner, core or hub.
"""
