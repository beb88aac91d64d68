"""The offsets of one member of a consumer group: what it has read, owns, and may commit.

Decides where a partition begins, which messages count, and which offsets are committed: those of partitions owned now,
acknowledged, above what the group holds, and only while no other commit is in flight, so that a late answer cannot
move the group back. It never touches a client, and knows partitions and offsets only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class GroupOffsets:
    """Tracks offsets; `next` is the offset behind the last message returned, for each partition."""

    def __init__(self, position: Mapping[int, int] | None = None) -> None:
        self.next: dict[int, int] = dict(position or {})
        self.owned: set[int] = set()
        #: Partitions whose offset comes from a checkpoint: it counts on their first assignment, not the group's.
        self._from_checkpoint = set(self.next)
        self._acknowledged: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._on_its_way: dict[int, int] = {}

    def assign(self, committed: Mapping[int, int | None]) -> dict[int, int | None]:
        """Own partitions, with what the group has committed of each; return where each begins, `None` if unknown.

        A partition that comes back begins behind what was read of it, or behind what another member has committed since.
        """
        starts: dict[int, int | None] = {}
        for partition, offset in committed.items():
            own = self.next.get(partition)
            if offset is not None:
                # also lower than before: somebody has reset the group, and commits continue from there
                self._committed[partition] = offset
            if own is None or (offset is not None and offset > own and partition not in self._from_checkpoint):
                own = offset
            self._from_checkpoint.discard(partition)
            starts[partition] = own
            if own is not None:
                self.next[partition] = own
        self.owned |= committed.keys()
        return starts

    def start(self, partition: int, offset: int) -> None:
        """Record where a partition begins that neither this reader nor the group knew."""
        self.next[partition] = offset

    def revoke(self, partitions: Iterable[int]) -> None:
        """Drop partitions: their messages no longer count, and nothing of them is committed."""
        self.owned.difference_update(partitions)

    def accept(self, partition: int, offset: int) -> bool:
        """Whether a message counts, and if so move behind it; one of a lost partition, or one read before, does not."""
        if partition not in self.owned or offset < self.next.get(partition, 0):
            return False
        self.next[partition] = offset + 1
        return True

    def replayed(self, partition: int, behind: int) -> None:
        """Move behind messages that were read again after a resume."""
        self.next[partition] = behind
        self._from_checkpoint.add(partition)

    def skip_to(self, partition: int, offset: int) -> None:
        """Move to an offset below which a partition has nothing more, as at its end behind a transaction's marker."""
        if partition in self.owned and offset > self.next.get(partition, 0):
            self.next[partition] = offset

    def acknowledge(self, position: Mapping[int, int]) -> None:
        """Record that everything below these offsets is done; lower offsets than before change nothing."""
        for partition, offset in position.items():
            if offset > self._acknowledged.get(partition, -1):
                self._acknowledged[partition] = offset

    def due(self) -> dict[int, int]:
        """Return the offsets to commit now; none while another commit is in flight."""
        if self._on_its_way:
            return {}
        return {
            partition: offset
            for partition, offset in self._acknowledged.items()
            if partition in self.owned and offset > self._committed.get(partition, -1)
        }

    def record_sent(self, offsets: Mapping[int, int]) -> None:
        """Record that a commit of these offsets was sent."""
        self._on_its_way = dict(offsets)

    def record_answer(self, *, accepted: bool) -> None:
        """Record the answer to the commit in flight."""
        if accepted:
            for partition, offset in self._on_its_way.items():
                # another member may have committed more before this answer arrived
                self._committed[partition] = max(offset, self._committed.get(partition, -1))
        self._on_its_way = {}

    @property
    def waiting(self) -> bool:
        """Whether a commit is in flight."""
        return bool(self._on_its_way)

    @property
    def uncommitted(self) -> bool:
        """Whether acknowledged offsets of owned partitions are not committed yet."""
        return self.waiting or bool(self.due())


class Extent:
    """Collects what one read returned, as runs `(partition, first offset, count)` without a gap, in the order returned."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, int, int]] = []

    def add(self, partition: int, offset: int) -> None:
        """Add the next message."""
        if self.runs:
            last, first, count = self.runs[-1]
            if last == partition and first + count == offset:
                self.runs[-1] = (last, first, count + 1)
                return
        self.runs.append((partition, offset, 1))
