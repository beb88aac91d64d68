"""Stateful and keyed steps: folds, scans and windows.

Decides what a state is, which key and which window an event belongs to, and when a window closes. Imports the contract
and `nodes.program` only.
"""
