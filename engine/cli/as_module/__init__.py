"""The file behind `python -m sluiceway`, which Python looks for as `sluiceway.__main__`.

Decides nothing: the root of the package has this folder on its path, for nothing but that name. Imports the command line.
"""
