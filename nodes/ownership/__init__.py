"""Whose an event is: what user code gives belongs to the engine before that code runs on.

Decides, by counts of references, what nobody else can change, and has the rest copied or refused. Imports `nodes` only.
"""
