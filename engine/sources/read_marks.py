"""Marks of what a source has read: whether its places count, and who hears of them.

Decides by what a source says of itself; what places are for is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...nodes.ordering.source_positions import Mark


@dataclass(slots=True)
class Marking:
    """Whether the places of a source count, who wants to hear of them, and how its reads are marked."""

    listens: bool  #: it is told what is committed
    places: bool
    logged: bool  #: each read has an extent for the order log

    @staticmethod
    def of(subject: object) -> Marking:
        """Look at what a source says of itself."""
        listens = listens_to_commits(subject)
        return Marking(listens, listens or bool(getattr(subject, "marked", False)), bool(getattr(subject, "logged", False)))

    def mark(self, reader: Any, size: int) -> Mark:
        """Mark what the last read gave."""
        return Mark(size, reader.position(), reader.extent() if self.logged else None)


def listens_to_commits(subject: object) -> bool:
    """Whether a source is to be told what is committed."""
    return bool(getattr(subject, "acknowledges", False))
