"""What a run asks of a cluster: berths, each with room for one worker of every pool that shares it, and decks of them.

Decides how many berths a plan needs, what one of them costs, and how many go into one deck on which node. Plain values;
Ray is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...nodes.program.hardware import seats_in

#: Ray counts fractions of resources in units of 1/10,000.
_DIGITS = 4
_UNIT = 10**-_DIGITS


@dataclass(frozen=True, slots=True)
class Profile:
    """What one berth costs, in Ray's resources ("CPU", "GPU" and the user's own), and where decks of it may be.

    `owner` is the group of a pool that has berths of its own; the others share theirs.
    """

    needs: tuple[tuple[str, float], ...]
    placement: str | None = None
    owner: int | None = None

    @property
    def gpus(self) -> float:
        """The GPUs of one worker."""
        return dict(self.needs).get("GPU", 0.0)

    @property
    def most(self) -> int | None:
        """How many berths a deck may have: those that share one GPU are alone with it, as Ray counts whole GPUs."""
        return seats_in(self.gpus, 1) if 0 < self.gpus < 1 else None

    @property
    def is_bound(self) -> bool:
        """Whether decks belong on one node, which the placement names."""
        return self.placement not in (None, "pack", "spread")

    def allows(self, node: NodeRoom) -> bool:
        """Whether decks may be on a node: the placement is none, a strategy, or the id or a name of the node."""
        return not self.is_bound or self.placement in (node.id, *node.names)

    def times(self, berths: int) -> dict[str, float]:
        """Return what a deck of some berths costs."""
        return {name: round(amount * berths, _DIGITS) for name, amount in self.needs}


@dataclass(frozen=True, slots=True)
class PoolDemand:
    """One pool: the profile of its berths, and its group. Workers of one group never share a berth."""

    name: str
    profile: int
    group: int
    workers: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What a whole run asks for: `berths[i]` of `profiles[i]`."""

    profiles: tuple[Profile, ...]
    berths: tuple[int, ...]
    pools: tuple[PoolDemand, ...]


def demand_of(pools: Sequence[tuple[str, Profile, int, int]]) -> Demand:
    """Return the demand of pools, each given as (name, profile, group, workers).

    Pools of one profile share its berths, as pools share the cores of one machine: there are as many as the largest group
    has workers.
    """
    profiles: list[Profile] = []
    sizes: dict[tuple[int, int], int] = {}
    found = []
    for name, profile, group, workers in pools:
        if profile not in profiles:
            profiles.append(profile)
        at = profiles.index(profile)
        sizes[at, group] = sizes.get((at, group), 0) + workers
        found.append(PoolDemand(name, at, group, workers))
    berths = [max(size for (of, _), size in sizes.items() if of == at) for at in range(len(profiles))]
    return Demand(tuple(profiles), tuple(berths), tuple(found))


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A living node: what it has in all, and what of that is free now."""

    id: str
    total: Mapping[str, float]
    free: Mapping[str, float]
    names: tuple[str, ...] = ()  #: its address and host name


@dataclass(frozen=True, slots=True)
class DeckPlan:
    """A deck to be asked for: how many berths of which profile, on a given node or (`None`) wherever there is room."""

    profile: int
    berths: int
    node: str | None


def fits(profile: Profile, room: Mapping[str, float]) -> int | None:
    """Return how many berths fit into what a node has; `None` for any number, if they cost nothing."""
    counts = [int((room.get(name, 0.0) + _UNIT / 2) / amount) for name, amount in profile.needs if amount > 0]
    return min(counts, default=None)


def plan_decks(at: int, profile: Profile, berths: int, nodes: Sequence[NodeRoom], most: int | None) -> list[DeckPlan]:
    """Return decks for a number of berths: first where there is room, then those that must wait.

    Nodes with the fewest resources that the profile does not ask for come first, then the widest: what is rare is left to
    the pools that need it.

    With the placement "spread" nodes get about the same number of berths each. A deck that must wait has no more berths
    than would fit on some node, so that it starts as soon as one is free. `most` bounds the berths of a deck.
    """
    nodes = [node for node in nodes if profile.allows(node)]
    most = min((size for size in (most, profile.most) if size is not None), default=None)
    free = {node.id: berths if (n := fits(profile, node.free)) is None else n for node in nodes}
    needed = {name for name, _ in profile.needs}
    spare = {node.id: sum(not name.startswith("node:") for name in node.total.keys() - needed) for node in nodes}
    chosen = dict.fromkeys(free, 0)
    left = berths
    while left and any(free.values()):
        if profile.placement == "spread":
            node, take = min((id for id in free if free[id]), key=lambda id: (chosen[id], -free[id])), 1
        else:
            # Nodes with what this pool does not ask for are left to the pools that do.
            node = max((id for id in free if free[id]), key=lambda id: (-spare[id], free[id]))
            take = min(left, free[node])
        chosen[node] += take
        free[node] -= take
        left -= take
    plans = []
    for node, count in chosen.items():
        plans += [DeckPlan(at, size, node) for size in _split(count, most)]
    largest = max([berths if (n := fits(profile, node.total)) is None else n for node in nodes], default=0)
    home = nodes[0].id if nodes and profile.is_bound else None
    plans += [DeckPlan(at, size, home) for size in _split(left, min(max(1, largest), most or left or 1))]
    return plans


def _split(count: int, most: int | None) -> list[int]:
    """Return the sizes of decks with `count` berths in all, none above `most`, as even as possible."""
    if count <= 0:
        return []
    decks = 1 if most is None else -(-count // most)
    return [count // decks + (at < count % decks) for at in range(decks)]


def amounts(given: Mapping[str, float]) -> str:
    """Return amounts of resources as a text, without those that Ray counts for itself."""
    hidden = ("node:", "memory", "object_store_memory")
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(given.items()) if not name.startswith(hidden))

