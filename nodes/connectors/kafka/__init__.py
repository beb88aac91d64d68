"""Kafka topics as sources and sinks. Needs the extra `kafka`.

Decides which offsets may be committed and what a resumed run finds in the topic. Imports the contract only.
"""
