"""One source read in the calling thread, for the inline runner.

Decides that whatever a source raises ends it and is kept as its error. When something is read is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from time import sleep
from typing import Any

from ...nodes.errors import CheckpointError, SourceError, describe
from ...nodes.ordering.source_positions import ReadMark
from ...nodes.ownership.ownership import is_alone
from ...nodes.sources import PAUSES_S, open_reader
from ..codec.copying import safe_copies
from ..plan.plan import SourcePlan
from ..reporting.failures import source_error
from .feed import Marking, check_key, is_lent
from .owned import check_read, source_ownership


class DirectSource:
    """One source, read in this thread. Events of a list belong to the caller: handlers get copies."""

    def __init__(self, plan: SourcePlan, key: Callable[[Any], Any] | None) -> None:
        self._plan = plan
        self._owner = source_ownership()
        self._iterator: Iterator[Any] = iter(())
        self._key = key
        self._last_key: Any = getattr(plan.node.subject, "last_key", None)
        self._reader: Any = None
        self._closed = False
        self._count = 0
        self._pause_s = PAUSES_S[0]
        self._fraction: float | None = None
        self._marking = Marking.of(plan.node.subject)
        self.listens = self._marking.listens
        self.error: SourceError | CheckpointError | None = None
        self._lent = is_lent(plan.node.subject)

    def read(self, most: int) -> tuple[list[Any], list[Any] | None, bool]:
        """Return events, their keys, and whether that was the end; an error ends the source and is kept in `error`."""
        events: list[Any] = []
        ended = False
        try:
            if self._reader is None:
                self._reader = open_reader(self._plan.node.subject)
                if getattr(self._reader, "one_by_one", False):
                    self._iterator = self._reader.iterator if self._lent else self._owner.each(self._reader.iterator)
            if getattr(self._reader, "one_by_one", False):
                events.extend(islice(self._iterator, most))
                ended = len(events) < most
            else:
                events, ended = self._read_batch(most)
        except KeyboardInterrupt:  # this is the caller's thread, which Ctrl-C interrupts
            raise
        except BaseException as error:  # a GeneratorExit or a CancelledError must not pass for the end of the run either
            self._fail(error, len(events))
            ended = True
        if self._lent:
            events = safe_copies(events)
        keys: list[Any] | None = None
        if self._key is not None:
            keys = []
            try:
                for event in events:
                    self._last_key = check_key(
                        self._key(event), self._last_key, self._plan.node.name, self._count + len(keys)
                    )
                    keys.append(self._last_key)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._fail(error, len(keys))
                events, ended = events[: len(keys)], True
        self._count += len(events)
        return events, keys, ended

    @property
    def fraction(self) -> float | None:
        """How much of the source was read, 0..1, if its reader knows: as it said behind its last read."""
        return self._fraction

    def marks(self, size: int) -> list[ReadMark]:
        """Return the mark of the last read, of `size` events, if the source's positions are recorded."""
        if not size or self.error is not None or not self._marking.positions or self._closed:
            return []
        return [self._marking.mark(self._reader, size)]

    def acknowledge(self, position: object) -> None:
        """Acknowledge to the source that everything before a position is committed."""
        if not self._closed:
            self._reader.acknowledge(position)

    def _read_batch(self, most: int) -> tuple[list[Any], bool]:
        batch = self._reader.read(most, 1 << 20)
        if batch is None:
            self._fraction = 1.0
            if not self.listens:
                self.close()  # closed here, so that an exception counts as the source's error
            return [], True
        progress = getattr(self._reader, "progress", None)
        if progress is not None:
            self._fraction = progress()
        if check_read(batch):
            self._pause_s = PAUSES_S[0]
            if getattr(self._reader, "gives_own", False):
                return batch, False
            alone = is_alone(batch)
            return self._owner.all_of(batch, alone=alone), False
        # The reader has nothing yet and cannot say when. A commit, a stop or the time limit may be due meanwhile.
        sleep(self._pause_s)
        self._pause_s = min(PAUSES_S[1], self._pause_s * 2)
        return [], False

    def _fail(self, error: BaseException, given: int) -> None:
        if isinstance(error, (SourceError, CheckpointError)):
            self.error = error
            return
        count = self._count + given
        plain = self._reader is None or getattr(self._reader, "one_by_one", False)
        position = repr(count if plain else self._reader.position())
        self.error = source_error(self._plan.node.name, describe(error), position, count, error)

    def close(self) -> None:
        """Close the reader."""
        if self._reader is not None and not self._closed:
            self._closed = True
            self._reader.close()
