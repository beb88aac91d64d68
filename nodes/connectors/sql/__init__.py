"""Tables and queries of a database as sources, tables as sinks, an advisory lock. Needs the extra `sql`.

Decides how rows are paged by key, and that rows and number are one transaction. Imports the contract only.
"""
