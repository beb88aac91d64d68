"""The sinks of one run: opened before anything starts, committed while it runs, closed or aborted at its end.

Decides the order of these calls, what happens to the other sinks when one fails, and what is durable before what: the
order log before a delivery, the sinks before the checkpoint. Which events a sink gets is decided elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from ...graphs.builder.spec import Node
from ...nodes.errors import CheckpointError, LockLost, SinkError, describe
from ...nodes.given import RunHere
from ...nodes.locks import Lock
from ...nodes.ordering.cuts import Cut
from ...nodes.ordering.order_log import Entries
from ...nodes.sinks import CallableSink, as_sink
from ..interpreter.forks import OwnerProcess
from ..plan.plan import Outlet, SinkPlan
from .run_lock import RunLock

if TYPE_CHECKING:
    from ..checkpoints.checkpoints import Checkpoints

_LOG = logging.getLogger("sluiceway")


class SinkEnd(Struct):
    """One sink node with its sink; `outlet` marks the consumer's own."""

    node: Node
    sink: Any
    outlet: bool
    recovered: int = -2  #: the last number that the sink has from an earlier run; -2 for none
    token: Any = None  #: what its last commit returned

    @staticmethod
    def of(plan: SinkPlan) -> SinkEnd:
        outlet = isinstance(plan.node.subject, Outlet)
        if outlet:
            return SinkEnd(plan.node, None, outlet)
        sink = as_sink(plan.node.subject)
        return SinkEnd(plan.node, sink if isinstance(sink, CallableSink) else RunHere(sink, "the sink"), outlet)


class SinkSet:
    """All sinks of one run, its lock, and its checkpoints; `after` is called when they are closed."""

    def __init__(
        self,
        ends: Sequence[SinkEnd],
        sources: int,
        lock: Lock | None,
        checkpoints: Checkpoints | None,
        after: Callable[[], None],
    ) -> None:
        self._after = after
        self.lock = RunLock(lock)
        self._ends = ends
        self._sources = sources
        self._checkpoints = checkpoints
        self._opened: list[SinkEnd] = []
        self.committed: int | None = None  #: the number below which everything is committed, once something is

    @property
    def first(self) -> int:
        """The first number that the sinks get: everything below was committed by an earlier run."""
        return 0 if self._checkpoints is None or self._checkpoints.saved is None else self._checkpoints.saved.n

    def open(self) -> None:
        """Open every sink that has `open`; one that cannot be opened fails the run before anything starts."""
        token = self.lock.acquire()
        for end in self._ends:
            fence = getattr(end.sink, "fence", None)
            if token is not None and callable(fence):
                fence(token)
            with _opening(end):
                self._claim(end)
        for end in self._ends:  # nothing was changed before every sink had said what it holds
            opener = self._opener(end)
            if callable(opener):
                with _opening(end):
                    opener()
            self._opened.append(end)
            if end.recovered >= 0 and self._checkpoints is not None:
                self._checkpoints.check_claimed(end.node.name, self._checkpoints.run, end.recovered)
        if self._checkpoints is not None and self._checkpoints.saved is None:
            self._checkpoints.save_start(self._sources, self.commit(-1))

    def _claim(self, end: SinkEnd) -> None:
        """Tell a sink which run it is about to hold; raises `CheckpointError` if it holds numbers unknown to the store."""
        claim = getattr(end.sink, "claim", None)
        if self._checkpoints is None or not callable(claim):
            return
        claimed = claim(self._checkpoints.run, self._checkpoints.store.place)
        if claimed is not None:
            self._checkpoints.check_claimed(end.node.name, *claimed)

    def _opener(self, end: SinkEnd) -> Callable[[], object] | None:
        """Return the function that opens a sink: anew, or at the last commit of the run before."""
        saved = self._checkpoints.saved if self._checkpoints is not None else None
        recover = getattr(end.sink, "recover", None)
        if saved is not None and saved.finished:
            recover = getattr(end.sink, "recover_finished", recover)  # nothing is written any more
        if saved is None or not callable(recover):
            opener: Callable[[], object] | None = getattr(end.sink, "open", None)
            return opener

        def resume() -> None:
            end.token = saved.tokens.get(end.node.name)
            end.recovered = recover(end.token)

        return resume

    def close(self, failed: bool) -> BaseException | None:
        """Close, or abort after a failure, every opened sink; return the first error, after all are done."""
        first: BaseException | None = None if failed else self.lock.loss()
        while self._opened:
            end = self._opened.pop(0)
            if end.sink is None:
                continue
            # A sink that cannot be closed fails the run: the sinks after it are aborted, as they are when the lock is lost.
            broken = failed or first is not None
            closer = getattr(end.sink, "abort", None) if broken else None
            try:
                (closer if callable(closer) else end.sink.close)()
            except Exception as error:
                if first is None:
                    first = sink_error(end.node, None, None, None, error, "cannot be closed")
                    first.__cause__ = error
        self.lock.release()
        if self._checkpoints is not None:
            self._checkpoints.close(whole=not failed and first is None)
        self._after()
        return first

    def log(self, entries: Entries | None) -> None:
        """Make entries of the order log durable, before the events that they are about are delivered."""
        if entries is not None and self._checkpoints is not None:
            self._checkpoints.store.log(entries.runs, entries.reads)

    def commit_cut(self, cut: Cut) -> None:
        """Commit the sinks at a cut, and save it if the run has checkpoints."""
        if self._checkpoints is not None and any(callable(getattr(end.sink, "recover", None)) for end in self._opened):
            self._checkpoints.announce(cut.n - 1)
        tokens = self.commit(cut.n - 1)
        if self._checkpoints is not None and not self._checkpoints.repeats:
            self._checkpoints.save(cut, tokens)
        self.committed = cut.n
        _LOG.debug("committed up to number %d", cut.n - 1)

    def commit(self, n: int) -> dict[str, Any]:
        """Commit every sink that can, up to number `n`, and return their tokens by name.

        Raises `SinkError` at the first that fails; the rest is not committed then.
        """
        self.lock.check()
        tokens = {}
        for end in self._opened:
            commit = getattr(end.sink, "commit", None)
            # A sink that committed just before the run died may be ahead of the first cuts of the next run.
            if callable(commit) and n > end.recovered:
                try:
                    end.token = commit(n)
                except LockLost:
                    raise
                except Exception as error:
                    raise sink_error(end.node, None, None, None, error, f"cannot commit up to number {n}") from error
            if callable(commit):
                tokens[end.node.name] = end.token
        return tokens


class EndedRun(Protocol):
    """A run whose end decides about its sinks: they are aborted after an error and where it was `cut_short`."""

    error: BaseException | None

    @property
    def cut_short(self) -> bool:
        """Whether the run ended before its end without an error."""


@contextmanager
def opened(sinks: SinkSet, run: EndedRun) -> Iterator[None]:
    """Open the sinks for a run; close them when it succeeds, abort them when it fails or is cut short.

    A fork of the caller in which this unwinds leaves them alone: they are the caller's.
    """
    failed, owner = True, OwnerProcess()
    try:
        sinks.open()
        yield
        failed = run.cut_short
    except BaseException as error:
        run.error = None if isinstance(error, GeneratorExit) else error
        raise
    finally:
        broken = None if owner.is_forked() else sinks.close(failed)
        if broken is not None and not failed:
            run.error = broken
            raise broken


@contextmanager
def _opening(end: SinkEnd) -> Iterator[None]:
    """Turn what a sink raises while it is opened into the error of that sink."""
    try:
        yield
    except (CheckpointError, LockLost):
        raise
    except Exception as error:
        raise sink_error(end.node, None, None, None, error, "cannot be opened") from error


def sink_error(
    node: Node, seq: int | None, index: int | None, event: Any, error: BaseException, what: str
) -> SinkError:
    """Return the error of a sink that failed, with the event if it is known."""
    below = "" if seq is None else f"; everything below {seq} was delivered, nothing above it"
    return SinkError(
        f"sink {node.name!r} {what}: {describe(error)}{below}", seq=seq, index=index, node=node.name, event=event
    )
