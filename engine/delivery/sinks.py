"""The sinks of one run: opened before anything starts, told to commit while it goes on, closed or aborted at its end.

Decides in which order that is done to them, what becomes of the others when one fails, and what is durable before
what: the order log before a delivery, the sinks before the checkpoint. What they are given is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ...graphs.builder.spec import Node
from ...nodes.errors import CheckpointError, LockLost, SinkError, describe
from ...nodes.locks import Lock
from ...nodes.ordering.cuts import Cut
from ...nodes.ordering.order_log import Entries
from ...nodes.sinks import as_sink
from ..checkpoints.checkpoints import Checkpoints
from ..plan.plan import Outlet, SinkPlan
from .run_lock import Held


@dataclass(slots=True)
class End:
    """One sink node with its sink; `outlet` marks the consumer's own."""

    node: Node
    sink: Any
    outlet: bool
    held: int = -2  #: the last number that the sink has from an earlier run; -2 for none
    token: Any = None  #: what its last commit gave

    @staticmethod
    def of(plan: SinkPlan) -> End:
        outlet = isinstance(plan.node.subject, Outlet)
        return End(plan.node, None if outlet else as_sink(plan.node.subject), outlet)


class SinkSet:
    """All sinks of one run, its lock, and its checkpoints; `after` is called when they are closed."""

    def __init__(
        self,
        ends: Sequence[End],
        sources: int,
        lock: Lock | None,
        checkpoints: Checkpoints | None,
        after: Callable[[], None],
    ) -> None:
        self._after = after
        self.lock = Held(lock)
        self._ends = ends
        self._sources = sources
        self._checkpoints = checkpoints
        self._opened: list[End] = []

    @property
    def first(self) -> int:
        """The first number that they are given: everything below was committed by an earlier run."""
        return 0 if self._checkpoints is None or self._checkpoints.saved is None else self._checkpoints.saved.n

    def open(self) -> None:
        """Open every sink that wants it; one that cannot be opened fails the run before anything starts."""
        token = self.lock.take()
        for end in self._ends:
            fence = getattr(end.sink, "fence", None)
            if token is not None and callable(fence):
                fence(token)
            opener = self._opener(end)
            if callable(opener):
                try:
                    opener()
                except (CheckpointError, LockLost):
                    raise
                except Exception as error:
                    raise sink_error(end.node, None, None, None, error, "cannot be opened") from error
            self._opened.append(end)
        if self._checkpoints is not None and self._checkpoints.saved is None:
            self._checkpoints.begin(self._sources, self.commit(-1))

    def _opener(self, end: End) -> Callable[[], object] | None:
        """Give what opens a sink: anew, or where the run before had committed it."""
        saved = self._checkpoints.saved if self._checkpoints is not None else None
        recover = getattr(end.sink, "recover", None)
        if saved is not None and saved.finished:
            recover = getattr(end.sink, "settle", recover)  # nothing is written any more
        if saved is None or not callable(recover):
            opener: Callable[[], object] | None = getattr(end.sink, "open", None)
            return opener

        def go_on() -> None:
            end.token = saved.tokens.get(end.node.name)
            end.held = recover(end.token)

        return go_on

    def close(self, failed: bool) -> BaseException | None:
        """Close (or, where the run failed, abort) every opened sink; give the first error of one, after all are done."""
        first: BaseException | None = None if failed else self.lock.loss()
        while self._opened:
            end = self._opened.pop(0)
            if end.sink is None:
                continue
            # A sink that cannot be closed makes a failed run of it: the ones behind it are aborted.
            broken = failed or first is not None  # also where the lock is lost
            closer = getattr(end.sink, "abort", None) if broken else None
            try:
                (closer if callable(closer) else end.sink.close)()
            except Exception as error:
                if first is None:
                    first = sink_error(end.node, None, None, None, error, "cannot be closed")
                    first.__cause__ = error
        self.lock.give_back()
        if self._checkpoints is not None:
            self._checkpoints.close(whole=not failed and first is None)
        self._after()
        return first

    def log(self, entries: Entries | None) -> None:
        """Make entries of the order log durable, before anything is delivered that they are about."""
        if entries is not None and self._checkpoints is not None:
            self._checkpoints.store.log(entries.runs, entries.reads)

    def commit_cut(self, cut: Cut) -> None:
        """Commit the sinks at a cut, and keep it where the run has checkpoints."""
        tokens = self.commit(cut.n - 1)
        if self._checkpoints is not None:
            self._checkpoints.keep(cut, tokens)

    def commit(self, n: int) -> dict[str, Any]:
        """Make every sink that can commit what it has, up to number `n`, and give their tokens by name.

        Raises `SinkError` at the first that fails; the rest is then not committed.
        """
        self.lock.check()
        tokens = {}
        for end in self._opened:
            commit = getattr(end.sink, "commit", None)
            # A sink that had committed just before the run died may be ahead of the first cuts of the next one.
            if callable(commit) and n > end.held:
                try:
                    end.token = commit(n)
                except LockLost:
                    raise
                except Exception as error:
                    raise sink_error(end.node, None, None, None, error, f"cannot commit up to number {n}") from error
            if callable(commit):
                tokens[end.node.name] = end.token
        return tokens


class Ending(Protocol):
    """A run whose end decides over its sinks: `cut_short` without an error also means that they hold no whole."""

    error: BaseException | None

    @property
    def cut_short(self) -> bool:
        """Whether the run ended before its end without an error."""


@contextmanager
def opened(sinks: SinkSet, run: Ending) -> Iterator[None]:
    """Open the sinks for a run; close them when it succeeds, abort them when it fails or is cut short."""
    failed = True
    try:
        sinks.open()
        yield
        failed = run.cut_short
    except BaseException as error:
        run.error = None if isinstance(error, GeneratorExit) else error
        raise
    finally:
        broken = sinks.close(failed)
        if broken is not None and not failed:
            run.error = broken
            raise broken


def sink_error(
    node: Node, seq: int | None, index: int | None, event: Any, error: BaseException, what: str
) -> SinkError:
    """Make the error of a sink that failed, on an event where that is known."""
    below = "" if seq is None else f"; everything below {seq} was delivered, nothing above it"
    return SinkError(
        f"sink {node.name!r} {what}: {describe(error)}{below}", seq=seq, index=index, node=node.name, event=event
    )
