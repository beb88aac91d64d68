"""How a graph runs. `run` has the public functions, `options` the options of a run; the packages below do the work.

`core` decides, `hub` carries out, `local` owns sockets, processes and shared memory, `runners` are the ways to run.
Imports `graphs.builder` and `nodes`.
"""
