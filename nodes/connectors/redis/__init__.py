"""Redis streams as sources and sinks, and a lock with a lease. Needs the extra `redis`.

Decides which entries are acknowledged and how the number stands beside them. Imports the contract only.
"""
