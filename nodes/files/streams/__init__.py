"""The bytes of files: which paths are meant, and what is read from one, plain or compressed, in any encoding.

Decides what may stand in a compressed file and where its streams end. Knows no lines and no events; imports the
contract in `nodes` only.
"""
