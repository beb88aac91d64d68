"""Checkpoints of one run: which graphs can have them, what is saved at a cut, and where a run resumes.

Decides what must be the same on resume (names, wiring, states), which graphs are refused because they could not resume
exactly, and that a run is finished when its last cut was saved as the end, before any file is put in place.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field, structs
from msgspec.structs import replace

from ...graphs.builder.spec import Node
from ...nodes.errors import CheckpointError, GraphError
from ...nodes.handlers import needs_build
from ...nodes.ordering.cuts import Cut
from ...nodes.ordering.order_log import OrderLog, Read
from ...nodes.ordering.source_positions import SourcePosition
from ...nodes.program.kinds import NodeKind
from ...nodes.sources import is_source
from ..codec.stored_values import decode_stored
from ..plan.plan import Outlet, Plan
from ..sources.journal_file import check_nothing_stored, journal_path, remove_journal
from ..sources.journaled import Journaled
from ..sources.resumed import ResumedSource
from .fingerprints import fingerprint, fingerprints, python_form
from .kept_store import KeptStore, kept_store
from .mend_checks import check_kept_whole, check_mended, mend_of, subjects_before
from .open_store import store_of
from .store import Resume, Saved, Store

_LOG = logging.getLogger("sluiceway")
#: The ends of the reading after which a run is finished; after any other end the next run resumes.
ENDS = (None, "source", "limit")


class Checkpoints(Struct):
    """The checkpoints of one run; `saved` is the one it resumes from."""

    store: Store
    saved: Saved | None
    order_log: OrderLog
    states: tuple[str, ...]  #: the names of the pools that have a state, in the order of the pools
    pools: tuple[int, ...]
    journals: tuple[Path, ...] = ()
    run: str = ""  #: the id of the run, the same however often it is resumed
    forgets: bool = False  #: whether the caller asked to begin anew whatever is there
    announced: int = -1  #: the highest number that the run before may have committed to its sinks
    #: Whether a run that is begun again gives all its results again, from kept answers: it has no checkpoint but its beginning.
    repeats: bool = False
    kept: KeptStore | None = None  #: the answers of durable nodes, where there are such
    #: The numbers whose answers are kept, as runs by the name of the node.
    answered: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    _ended: bool = False

    @property
    def finished(self) -> bool:
        """Whether the run had finished before; all that may be left to do is to put its files in place."""
        return self.saved is not None and self.saved.finished

    @property
    def places(self) -> list[SourcePosition]:
        """The positions of the sources."""
        assert self.saved is not None
        return _places(self.saved)

    def packed(self) -> dict[int, bytes]:
        """Return the pickled states by the index of their pool."""
        known = self.saved.states if self.saved is not None else {}
        return {at: known[name] for at, name in zip(self.pools, self.states, strict=True) if name in known}

    def save(self, cut: Cut, tokens: Mapping[str, Any]) -> None:
        """Save a cut whose sinks are committed."""
        states = {
            name: packed
            for at, name in zip(self.pools, self.states, strict=True)
            if (packed := cut.states.get(at)) is not None
        }
        places = tuple((place.position, place.skip, place.key) for place in cut.positions)
        starts = tuple(place.start for place in cut.positions)
        self._ended = cut.final and cut.ended_by in ENDS
        ended_by = cut.ended_by if self._ended else None
        self.store.write(Saved(cut.n, places, cut.turn, states, dict(tokens), self._ended, starts, self.run, ended_by))

    def announce(self, n: int) -> None:
        """Record that the sinks are about to commit up to number `n`, so that none can hold more than the store knows."""
        self.store.announce(n)

    def check_claimed(self, sink: str, run: str, n: int) -> None:
        """Raise `CheckpointError` for a sink that holds numbers up to `n` of a run unless the store knows of them.

        `run` is the id of the run that wrote them.
        """
        known = max(self.announced, self.saved.n - 1 if self.saved is not None else -1)
        if self.forgets or n < 0 or (run == self.run and n <= known):
            return
        knows = f"that run up to number {known} only" if run == self.run else "nothing of that run"
        raise CheckpointError(
            f"cannot {'resume' if self.saved is not None else 'begin'} with sink {sink!r}: it holds the numbers up to {n} of"
            f" a run whose checkpoints were kept in {self.store.place}, and this store knows {knows}: it was lost, emptied"
            " or replaced by another copy; restore the newest one with what lies beside it (-wal), or take away what the"
            " run wrote and begin afresh with resume='never'"
        )

    def close(self, *, whole: bool) -> None:
        """Close the store; `whole` says that the sinks are in place, so that a finished run needs no journal any more."""
        try:
            for path in self.journals if whole and (self._ended or self.finished) else ():
                remove_journal(path)
        except CheckpointError as error:
            _LOG.warning("%s", error)
        finally:
            self.store.close()  # last: until then no other run can have created a journal of that name

    def save_start(self, sources: int, tokens: Mapping[str, Any]) -> None:
        """Save the beginning, so that the first tokens of the sinks are known."""
        self.save(Cut(0, tuple(SourcePosition() for _ in range(sources))), tokens)


def open_checkpoints(
    plan: Plan,
    nodes: list[Node],
    *,
    checkpoint: str | os.PathLike[str] | Store,
    resume: Resume,
    inline: bool,
    locked: bool,
    limit: int | None,
    kept_bytes: int,
    keeps_all: bool = False,
    repeats: bool = False,
    mends: bool = False,
    numbers: Collection[int] | None = None,
) -> Checkpoints:
    """Open the store of a run, set its sources to their positions, and return the store with what it says.

    `inline` says that the whole graph runs in the calling thread, `locked` that the run has a lock, `limit` after how many
    numbers its reading is to end; `kept_bytes` is the most that the answers of durable nodes may take. With `repeats` a run
    that is begun again gives its results again from the first. `keeps_all` keeps all these answers; with `mends` a run that
    has kept all is begun anew with them, but for those of `numbers`, or of what failed.

    Raises `GraphError` for a graph that could not go on exactly, `CheckpointError` for what the store says.
    """
    _check(plan, repeats=repeats)
    keeps_all = keeps_all or mends
    durable = [node for node in nodes if node.options.durable]
    if keeps_all:
        check_kept_whole(plan, durable)
    if mends:
        check_mended(plan)
    pools = tuple(at for at, pool in enumerate(plan.wiring.pools) if pool.stateful)
    names = tuple(f"{plan.wiring.pools[at].name} ({at})" for at in pools)
    if inline:
        pools, names = (0,), ("all",)
    if repeats:
        pools, names = (), ()
    store = store_of(checkpoint, locked=locked)
    codes = {node.name: f"{python_form()} {fingerprint(*subjects_before(node))}" for node in durable}
    kept = kept_store(store, codes, most_bytes=kept_bytes, keeps_all=keeps_all or repeats) if durable else None
    journals = {
        at: journal_path(checkpoint, at) for at, source in enumerate(plan.sources) if source.node.journal
    }
    identity = _identity(plan, nodes, inline, names, repeats=repeats)
    if keeps_all:
        identity["keep"] = "all"
    saved = store.open(identity, "required" if mends else resume)
    try:
        if saved is not None and not mends:
            _check_limit(store.place, saved, limit)
        if saved is not None and saved.finished and not mends:
            _LOG.warning(
                "%r has finished before, at number %d: nothing is read; begin anew with resume='never'", plan.name, saved.n
            )
        runs, reads = store.logged() if saved is not None else ([], [])
        announced = store.announced() if saved is not None else -1
        by_code = [node.name for node in durable if node.options.durable == "by_code"]
        mend = None
        if mends:
            mend, saved, announced, by_code = mend_of(durable, numbers), None, -1, []
        n = saved.n if saved is not None else 0
        answered: dict[str, list[tuple[int, int]]] = {}
        if kept is not None:
            answered = kept.open(n, afresh=saved is None and not mends, by_code=by_code, mend=mend)
        if mend is not None:
            _LOG.info("graph %r is mended, by %s: %d answers are forgotten", plan.name, store.place, mend.forgotten)
        for at, source in enumerate(plan.sources):
            place = _places(saved)[at] if saved is not None else SourcePosition()
            mine = [read for read in reads if read.source == at and read.start + read.count > place.start]
            subject, name = source.node.subject, source.node.name
            if source.remote and not inline:
                place, mine = _unpacked(place, mine, name)
            if at in journals and saved is None and resume != "never":
                check_nothing_stored(journals[at])
            if at in journals and (saved is None or not saved.finished):
                subject = Journaled(subject, journals[at], name, afresh=saved is None)
            known = None  # what is mended may be the input
            if kept is not None and kept.positions and at not in journals and not mends:
                known = kept.positions[at]
            if known is not None and source.remote and not inline:
                known, _ = _unpacked(known, [], name)
            again = ResumedSource(subject, name, place, mine, known)
            plan.sources[at] = replace(source, node=replace(source.node, subject=again))
    except BaseException:
        store.close()
        raise
    log = OrderLog(saved.n if saved is not None else 0, runs, reads)
    return Checkpoints(
        store,
        saved,
        log,
        names,
        pools,
        tuple(journals.values()),
        run=saved.run if saved is not None else uuid.uuid4().hex,
        forgets=resume == "never" or mends,
        announced=announced,
        repeats=repeats,
        kept=kept,
        answered=answered,
    )


def _check_limit(where: str, saved: Saved, limit: int | None) -> None:
    """Raise `CheckpointError` where a run is past its limit, or has ended by another one: nothing would be read."""
    given = "without a limit" if limit is None else f"with limit={limit}"
    if limit is not None and limit < saved.n:
        raise CheckpointError(
            f"cannot resume from {where} {given}: the run is at number {saved.n} already; give it a higher limit or none,"
            " or begin afresh with resume='never'"
        )
    if saved.finished and saved.ended_by == "limit" and limit != saved.n:
        raise CheckpointError(
            f"cannot resume from {where} {given}: the run has finished by limit={saved.n}, its windows and files are closed;"
            " begin afresh with resume='never' (to go on from call to call, end a run by stop= or time_limit_s=)"
        )


def _places(saved: Saved) -> list[SourcePosition]:
    return [
        SourcePosition(position, skip, start, key)
        for (position, skip, key), start in zip(saved.places, saved.starts, strict=True)
    ]


def _unpacked(place: SourcePosition, reads: list[Read], source: str) -> tuple[SourcePosition, list[Read]]:
    """Return a position and reads with the parts that a source process pickled unpickled; raises `CheckpointError`."""
    if isinstance(place.position, bytes):
        place = structs.replace(place, position=decode_stored(place.position, f"the place of source {source!r}"))
    what = f"a read of source {source!r} in the order log"
    return place, [structs.replace(read, extent=decode_stored(read.extent, what)) for read in reads]


def _identity(
    plan: Plan, nodes: list[Node], inline: bool, states: tuple[str, ...], *, repeats: bool
) -> dict[str, Any]:
    parts = {} if inline or repeats else _parts(plan)
    again = {"way of going on": "all results again, from the first"} if repeats else {}
    return {
        **again,
        "graph": plan.name,
        "runner": "inline" if inline else "processes",
        "order": plan.order,
        "nodes": [[node.name, _kind(node), [given.name for given in node.inputs]] for node in nodes],
        "number of workers of each node with a state": parts,
        "states": list(states),
        "settings": {node.name: given for node in nodes if (given := _settings(node)) is not None},
        "code": {
            "python": python_form(),
            "nodes": fingerprints(nodes),
            "keys": [node.name for node in nodes if node.kind is NodeKind.KEY_BY],
        },
    }


def _settings(node: Node) -> dict[str, Any] | None:
    """Return the settings that decide what a source or sink reads or holds, or `None`."""
    settings = getattr(node.subject, "settings", None)
    if node.kind not in (NodeKind.SOURCE, NodeKind.SINK) or isinstance(node.subject, type) or not callable(settings):
        return None
    return dict(settings())


def _parts(plan: Plan) -> dict[str, int]:
    """Return the number of workers that share the keys of each node with a state: one for each partition."""
    stateful = [pool for pool, wired in zip(plan.pools, plan.wiring.pools, strict=True) if wired.stateful]
    return {"+".join(pool.nodes): pool.part[1] if pool.part is not None else 1 for pool in stateful}


def _kind(node: Node) -> str:
    """Return what a node is, as far as it must be the same on resume, including the form of its states."""
    if node.journal:
        return f"journaled {node.kind.value}"
    form = node.subject.form if node.kind.traits.has_form else ""
    return f"{node.kind.value} {form}".rstrip()


def _check(plan: Plan, *, repeats: bool) -> None:
    if repeats and len(plan.sinks) > sum(isinstance(sink.node.subject, Outlet) for sink in plan.sinks):
        name = next(sink.node.name for sink in plan.sinks if not isinstance(sink.node.subject, Outlet))
        raise GraphError(
            f"cannot give the results of graph {plan.name!r} again from checkpoint=: sink {name!r} would get them again too;"
            " use sw.run with sinks, or iterate without them"
        )
    if repeats and not any(pool.durable for pool in plan.wiring.pools):
        raise GraphError(
            f"cannot use checkpoint= to iterate over graph {plan.name!r}: no handler is durable, so that nothing would be"
            " kept; give those that are dear durable=True"
        )
    for source in plan.sources:
        subject, name = source.node.subject, source.node.name
        again = not is_source(subject) or getattr(subject, "replay", "none") in ("exact", "logged")
        if not again and not source.node.journal:
            raise GraphError(
                f"cannot make checkpoints with source {name!r}: it cannot be read again; store its events in a file or"
                " table first, or give it journal=True"
            )
    for pool, wired in zip(plan.pools, plan.wiring.pools, strict=True):
        for handler in pool.handlers if pool.ordered and not wired.stateful else ():
            if handler is not None and needs_build(handler) and not repeats:
                raise GraphError(
                    f"cannot make checkpoints with node {pool.name!r}: it is an ordered handler class whose state nobody"
                    " can save; give it snapshot() and restore(state)"
                )
