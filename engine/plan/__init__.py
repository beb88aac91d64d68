"""A graph becomes a plan: which node runs in which pool, and what each pool's program is.

Decides what is fused and where an ordering point stands. Opens nothing and starts nothing.
"""
