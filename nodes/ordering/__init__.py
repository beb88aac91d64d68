"""Which event gets which number, how many are in flight, and when a number is released and committed.

Decides the order, the budget, the release and the consistent cuts, as plain objects: values in, values out, time passed
in. Imports no other package.
"""
