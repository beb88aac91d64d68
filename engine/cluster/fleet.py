"""The fleet: which decks a run has, which workers are on them, and which workers wait for a berth.

Decides on which deck a worker starts: one of its profile with a berth that is free for its group, the one that has the
least to do. Plain values; Ray, processes and time are not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...nodes.dispatch.worker_name import WorkerName
from .demand import Demand


@dataclass(slots=True)
class DeckState:
    """One deck: `node` is `None` until it is up."""

    profile: int
    berths: int
    node: str | None = None
    taken: dict[tuple[int, int], str] = field(default_factory=dict)  #: workers by group and berth

    def free_berth(self, group: int) -> int | None:
        """Return the lowest berth that no worker of a group has."""
        return next((berth for berth in range(self.berths) if (group, berth) not in self.taken), None)


class Fleet:
    """The decks of one run, by id."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self.decks: dict[str, DeckState] = {}
        self.waiting: dict[str, None] = {}
        self._deck_of: dict[str, str] = {}

    def deck_of(self, worker: str) -> str | None:
        """Return the deck of a worker, `None` for one that waits or has exited."""
        return self._deck_of.get(worker)

    def profile_of(self, worker: str) -> int:
        """Return the profile of the berths of a worker."""
        return self._demand.pools[WorkerName.parse(worker).pool].profile

    def missing(self, profile: int) -> int:
        """Return how many berths of a profile are neither there nor asked for."""
        return self._demand.berths[profile] - sum(deck.berths for deck in self.decks.values() if deck.profile == profile)

    def add(self, deck: str, profile: int, berths: int) -> None:
        """Record that a deck is asked for."""
        self.decks[deck] = DeckState(profile, berths)

    def record_up(self, deck: str, node: str) -> None:
        """Record that a deck is up, on a node."""
        self.decks[deck].node = node

    def remove(self, deck: str) -> list[str]:
        """Record that a deck is gone; return the workers that were on it."""
        gone = list(self.decks.pop(deck).taken.values())
        for worker in gone:
            del self._deck_of[worker]
        return gone

    def request(self, worker: str) -> None:
        """Record that a worker is to be started."""
        self.waiting[worker] = None

    def leave(self, worker: str) -> None:
        """Record that a worker has exited, or is not wanted any more."""
        self.waiting.pop(worker, None)
        deck = self._deck_of.pop(worker, None)
        if deck is not None:
            taken = self.decks[deck].taken
            del taken[next(key for key, name in taken.items() if name == worker)]

    def assign(self) -> list[tuple[str, str, int]]:
        """Assign berths of decks that are up to waiting workers; return (worker, deck, berth) for each that got one."""
        given = []
        for worker in list(self.waiting):
            demand = self._demand.pools[WorkerName.parse(worker).pool]
            found = [
                (len(deck.taken) / deck.berths, id, berth)
                for id, deck in self.decks.items()
                if deck.node is not None
                and deck.profile == demand.profile
                and (berth := deck.free_berth(demand.group)) is not None
            ]
            if found:
                _, id, berth = min(found)
                del self.waiting[worker]
                self.decks[id].taken[demand.group, berth] = worker
                self._deck_of[worker] = id
                given.append((worker, id, berth))
        return given

    @property
    def workers(self) -> list[str]:
        """The workers that have a berth."""
        return list(self._deck_of)

    def waits_for(self, profile: int) -> list[str]:
        """Return the workers that wait for a berth of a profile."""
        return [worker for worker in self.waiting if self.profile_of(worker) == profile]

    def is_up(self, profile: int) -> bool:
        """Whether any deck of a profile is up."""
        return any(deck.node is not None for deck in self.decks.values() if deck.profile == profile)

    def workers_by_node(self) -> dict[str, int]:
        """Return how many workers each node has."""
        counts: dict[str, int] = {}
        for deck in self.decks.values():
            if deck.node is not None:
                counts[deck.node] = counts.get(deck.node, 0) + len(deck.taken)
        return counts
