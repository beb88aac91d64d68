"""What user code sees of the interpreter that it runs in: its settings, its forks, its memory, what the program has patched.

Imports nothing of the engine but `engine.codec`: the processes of every backend need it, and it knows none of them.
"""
