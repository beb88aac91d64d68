"""What a worker does with a task, wherever it runs: decode, run the program, encode the answer.

Imports the codec and the execution of programs; knows no socket and no process.
"""
