"""Which worker of a pool handles which numbers, in batches of what size, and which event is to blame when it dies.

Plain objects: values in, values out, time passed in. Imports `nodes.ordering` and `nodes.program` only; knows neither
payloads nor processes.
"""
