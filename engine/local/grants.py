"""Grants: room in the arena that goes with a task, so that its answer need not pass through the socket.

Decides how much room a task gets: what the answers of its pool have lately needed. A grant is held until its task is
answered or its worker was seen dead, and beyond that by the payloads that lie in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...nodes.ordering.worker_name import WorkerName
from .transport.arena import Arena
from .transport.extents import Slot
from .transport.shared_frames import FRAME_BYTES, Region, frame_bytes

if TYPE_CHECKING:
    from ..tasks.task import AnswerMessage

#: What a pool needs less than before is forgotten by this much with each answer.
_DECAY = 0.95
#: Where frames begin and how evenly large ones are spread is not known beforehand.
_SLACK_BYTES = 4096


@dataclass(slots=True)
class _Held:
    slot: Slot
    left: int  #: numbers that are not answered yet
    used: int  #: where the last frame so far ends


class Grants:
    """The grants of one run, by worker and task."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._held: dict[str, dict[int, _Held]] = {}
        self._needs: dict[int, float] = {}

    def give(self, worker: str, task: int, numbers: int) -> tuple[int, int] | None:
        """Give room for the answer of a task of `numbers` numbers, or `None` where none is needed or free."""
        need = self._needs.get(WorkerName.parse(worker).pool, 0.0) * numbers
        if need < FRAME_BYTES:
            return None
        slot = self._arena.allocate(int(need) + _SLACK_BYTES)
        if slot is None:
            return None
        self._held.setdefault(worker, {})[task] = _Held(slot, numbers, slot.start)
        return slot.start, slot.stop

    def of(self, worker: str, task: int) -> tuple[Region, Slot] | tuple[None, None]:
        """Give where the frames of an answer may lie, and the slot that keeps them."""
        held = self._held.get(worker, {}).get(task)
        return (self._arena.region(held.slot), held.slot) if held is not None else (None, None)

    def answered(self, worker: str, answer: AnswerMessage) -> None:
        """Take in an answer: learn what it needed, and let go of the grant when its task has nothing left."""
        need, end = 0, 0
        for data in answer.exits:
            payload = data.payload
            sizes = [frame_bytes(frame) for frame in payload.frames]
            need += sum([size for size in sizes if size >= FRAME_BYTES])
            end = max([end, *[place + size for place, size in zip(payload.places, sizes, strict=False) if place >= 0]])
        pool = WorkerName.parse(worker).pool
        self._needs[pool] = max(need / answer.size, self._needs.get(pool, 0.0) * _DECAY)
        tasks = self._held.get(worker)
        held = tasks.get(answer.task) if tasks is not None else None
        if tasks is None or held is None:
            return
        held.left -= answer.size
        held.used = max(held.used, end)
        if held.left <= 0:
            self.returned(worker, answer.task)

    def returned(self, worker: str, task: int) -> None:
        """Take in that nothing more comes for a task; what its answers have not used is free."""
        held = self._held.get(worker, {}).pop(task, None)
        if held is not None and held.used > held.slot.start:
            held.slot.trim(held.used)

    def gone(self, worker: str) -> None:
        """Take in that a worker has been seen dead: it writes no more."""
        self._held.pop(worker, None)

    def forget(self) -> None:
        """Let go of all grants, when the run is over and nobody writes any more."""
        self._held.clear()
