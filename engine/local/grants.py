"""Grants: room in the arena that is sent with a task, so that its answer need not pass through the socket.

Decides how much room a task gets: as much as recent answers of its pool needed. A grant lasts until its task is
answered or its worker has exited, and beyond that as long as a payload lies in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from ...nodes.dispatch.worker_name import WorkerName
from .transport.arena import Arena
from .transport.extents import Slot
from .transport.shared_frames import FRAME_BYTES, Region, frame_bytes

if TYPE_CHECKING:
    from ..tasks.task import AnswerMessage

#: With each answer, the room that a pool is thought to need falls to this share of it, if less was used.
_DECAY = 0.95
#: Where frames begin and how evenly large ones are spread is not known beforehand.
_SLACK_BYTES = 4096


class _Allotment(Struct):
    slot: Slot
    open: int  #: how many numbers are not answered yet
    used: int  #: the end of the last frame so far


class Grants:
    """The grants of one run, by worker and task."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._grants: dict[str, dict[int, _Allotment]] = {}
        self._needs: dict[int, float] = {}

    def allocate(self, worker: str, task: int, numbers: int) -> tuple[int, int] | None:
        """Return room (start, stop) for the answer to a task of `numbers` numbers; `None` if none is needed or free."""
        need = self._needs.get(WorkerName.parse(worker).pool, 0.0) * numbers
        if need < FRAME_BYTES:
            return None
        slot = self._arena.allocate(int(need) + _SLACK_BYTES)
        if slot is None:
            return None
        self._grants.setdefault(worker, {})[task] = _Allotment(slot, numbers, slot.start)
        return slot.start, slot.stop

    def find(self, worker: str, task: int) -> tuple[Region, Slot] | tuple[None, None]:
        """Return where the frames of an answer may lie, and the slot that keeps them."""
        grant = self._grants.get(worker, {}).get(task)
        return (self._arena.region(grant.slot), grant.slot) if grant is not None else (None, None)

    def record_answer(self, worker: str, answer: AnswerMessage) -> None:
        """Record an answer: learn how much room it needed, and free the grant once its whole task is answered."""
        need, end = 0, 0
        for data in answer.exits:
            payload = data.payload
            sizes = [frame_bytes(frame) for frame in payload.frames]
            need += sum([size for size in sizes if size >= FRAME_BYTES])
            end = max([end, *[start + size for start, size in zip(payload.places, sizes, strict=False) if start >= 0]])
        pool = WorkerName.parse(worker).pool
        self._needs[pool] = max(need / answer.size, self._needs.get(pool, 0.0) * _DECAY)
        tasks = self._grants.get(worker)
        grant = tasks.get(answer.task) if tasks is not None else None
        if tasks is None or grant is None:
            return
        grant.open -= answer.size
        grant.used = max(grant.used, end)
        if grant.open <= 0:
            self.record_return(worker, answer.task)

    def record_return(self, worker: str, task: int) -> None:
        """Record that no more answers come for a task: free the room that they have not used."""
        grant = self._grants.get(worker, {}).pop(task, None)
        if grant is not None and grant.used > grant.slot.start:
            grant.slot.trim(grant.used)

    def record_exit(self, worker: str) -> None:
        """Record that a worker has exited, so that nobody writes into its grants any more."""
        self._grants.pop(worker, None)

    def clear(self) -> None:
        """Free all grants, once the run is over and nobody writes any more."""
        self._grants.clear()
