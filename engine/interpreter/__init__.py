"""What user code sees of the interpreter that it runs in, whichever backend started the process: its settings, its forks.

Imports nothing of the engine but `engine.codec`: the processes of every backend need it, and it knows none of them.
"""
