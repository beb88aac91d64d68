"""A graph becomes a plan: which node runs in which pool, and what each pool's program is.

Decides what is fused and where the numbers are put in order again. Opens nothing and starts nothing.
"""
