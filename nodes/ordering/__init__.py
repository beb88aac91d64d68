"""Who gets which number, and when it is released.

Decides the order, the dispatch, the budget, the blame for a death and the consistent cuts, as plain objects: values in,
values out, time passed in. Imports `nodes.program` only.
"""
