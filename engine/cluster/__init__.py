"""A run's workers on the nodes of a Ray cluster: actors with the project's own processes inside, called decks.

Decides which deck has which workers, and what follows from the death of one. Only the files of this folder import Ray, and
only when a run is on it; order, budget and recovery are not known here.
"""
