"""What a pool runs, as plain data, and what a result means for a column.

Decides how outputs, failures and verdicts are counted for a run of numbers. Imports the contract in `nodes` only.
"""
