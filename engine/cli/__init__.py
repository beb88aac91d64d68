"""The command line: `run`, `plan`, `bench`, `checkpoints`.

Decides the words, the exit codes and what a person reads. Imports the public functions of `engine.run`.
"""
