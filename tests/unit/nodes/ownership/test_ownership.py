"""What is the engine's own: fresh objects pass as they are, whatever somebody else can change is copied, views are refused."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.engine.codec.copying import safe_copies
from sluiceway.nodes.given import NotGiven
from sluiceway.nodes.ownership import reference_counts
from sluiceway.nodes.ownership.mutability import Mutability, kind_of
from sluiceway.nodes.ownership.ownership import Ownership


class Thing:
    def __init__(self, part: object = None) -> None:
        self.part = part


@dataclass(frozen=True)
class Point:
    x: int
    y: tuple[int, ...] = (1, 2)


class Row(NamedTuple):
    a: int
    b: str


FRESH: list[Callable[[], Any]] = [
    lambda: 5, lambda: "x" * 3, lambda: (1, "a"), lambda: ((1, 2), (3,)), lambda: {"a": 1}, lambda: {"a": [1], "b": {"c": []}},
    lambda: [1], lambda: [[1], [2, [3]]], lambda: {1, 2}, lambda: bytearray(3), lambda: deque([1]), lambda: OrderedDict(a=[1]),
    Thing, lambda: Thing([Thing({"a": 1})]), lambda: Point(1), lambda: Row(1, "a"), lambda: ([1], {"a": bytearray(2)}),
    lambda: Decimal(1), lambda: datetime.now(UTC), lambda: {"n": bytearray(1)},
]  # fmt: skip


def never(events: list[Any]) -> list[Any]:
    raise AssertionError(f"copied {[type(event).__name__ for event in events]}")


def yielding(makers: list[Callable[[], Any]], ids: list[int]) -> Iterator[Any]:
    for make in makers:
        ids.append(0)
        yield make()


@given(st.lists(st.sampled_from(FRESH), max_size=30))
def test_what_is_fresh_passes_as_it_is(makers: list[Callable[[], Any]]) -> None:
    assert reference_counts.TELL, "these tests need an interpreter whose counts of references tell"
    owner = Ownership(never, "the source gave")
    assert [type(event) for event in owner.each(make() for make in makers)] == [type(make()) for make in makers]
    assert len(owner.all_of([make() for make in makers], alone=True)) == len(makers)
    assert len(owner.all_of(tuple(make() for make in makers), alone=True)) == len(makers)
    inputs = list(range(len(makers)))
    rest = iter(inputs)
    owner.expect_inputs(inputs)
    results = owner.results(map(lambda at: makers[at](), rest), lambda before: iter(inputs))  # noqa: C417 (as executors do)
    assert [type(event) for event in results] == [type(make()) for make in makers]


@given(st.lists(st.sampled_from(FRESH), max_size=12), st.randoms(use_true_random=False))
def test_what_somebody_else_has_is_copied(makers: list[Callable[[], Any]], random: Any) -> None:
    """Whatever is given, by any way through it, no object that can change is one that the giver still has."""
    kept = [make() for make in makers]
    inside = [random.choice([lambda e: e, lambda e: [e], lambda e: {"a": e}, lambda e: (e, 1), Thing]) for _ in kept]

    def gives() -> Iterator[Any]:
        for event, wrap in zip(kept, inside, strict=True):
            yield wrap(event)

    owner = Ownership(safe_copies, "the source gave")
    before = list(map(repr, map(shown, gives())))
    theirs = {id(part) for part in changeable(kept)}
    for owned in (list(owner.each(gives())), owner.all_of(list(gives()), alone=True), owner.all_of(kept, alone=False)):
        assert not theirs & {id(part) for part in changeable(owned)}
    assert list(map(repr, map(shown, owner.each(gives())))) == before


def changeable(events: list[Any]) -> list[Any]:
    """Return every object below events that can change, themselves included, as the collector sees them."""
    found, rest = {}, list(events)
    while rest:
        part = rest.pop()
        kind = kind_of(type(part))
        if kind is Mutability.LEAF or id(part) in found:
            continue
        found[id(part)] = (part, kind)
        rest += gc.get_referents(part)
    return [part for part, kind in found.values() if kind is not Mutability.FROZEN]


def shown(event: Any) -> Any:
    if isinstance(event, Thing):
        return "Thing", shown(event.part)
    if isinstance(event, dict):
        return {name: shown(value) for name, value in event.items()}
    return type(event)(map(shown, event)) if type(event) in (list, tuple) else event


def test_an_input_and_its_parts_pass_while_nobody_else_has_them() -> None:
    owner = Ownership(never, "the handler gave")
    handlers: list[Callable[[Any], Any]] = [
        lambda e: e, lambda e: e["rows"], lambda e: {**e, "x": 1}, lambda e: (e["rows"][0], e["thing"]),
        lambda e: [e["thing"].part],
    ]  # fmt: skip
    for handler in handlers:
        inputs = [{"rows": [[n], [n]], "thing": Thing([n])} for n in range(5)]
        also = list(inputs)  # another list of the engine
        rest = iter(inputs)
        owner.expect_inputs(inputs)
        results = list(owner.results(map(handler, rest), lambda before, inputs=inputs: iter(inputs)))
        assert len(results) == len(also)


def test_an_input_that_the_handler_keeps_is_copied() -> None:
    kept: list[Any] = []
    handlers: list[Callable[[Any], Any]] = [
        lambda e: (kept.append(e), e)[1],
        lambda e: (kept.append(e), e["rows"])[1],
        lambda e: (kept.append(e["rows"]), {**e, "x": 1})[1],
        lambda e: (kept.append(e["rows"][0]), e)[1],
    ]
    for handler in handlers:
        kept.clear()
        owner = Ownership(safe_copies, "the handler gave")
        inputs = [{"rows": [[n], [n]]} for n in range(5)]
        rest = iter(inputs)
        owner.expect_inputs(inputs)
        results = list(owner.results(map(handler, rest), lambda before, inputs=inputs: iter(inputs)))
        assert not {id(part) for part in changeable(kept)} & {id(part) for part in changeable(results)}


def test_each_asks_for_the_next_event_only_when_asked() -> None:
    asked: list[int] = []

    def gives() -> Iterator[Any]:
        for n, event in enumerate([1, 2, "a", None, {"a": 1}, [1], 3]):
            asked.append(n)
            yield event

    events = Ownership(safe_copies, "the source gave").each(gives())
    for n in range(7):
        next(events)
        assert asked == list(range(n + 1))
    with pytest.raises(StopIteration):
        next(events)


def test_a_thing_that_cannot_be_copied_is_tried_once() -> None:
    tried: list[Any] = []

    class Handle:
        pass

    def copies(events: list[Any]) -> list[Any]:
        tried.extend(events)
        return events

    handle = Handle()
    assert list(Ownership(copies, "the source gave").each(handle for _ in range(9))) == [handle] * 9
    assert tried == [handle]


def test_a_view_in_a_cycle_is_found() -> None:
    cycle: list[Any] = []
    cycle += [cycle, iter([1])]
    with pytest.raises(NotGiven, match="a list that holds a list_iterator"):
        list(Ownership(safe_copies, "the source gave").each([cycle]))


def test_what_an_object_has_inside_is_its_own() -> None:
    """An iterator there is no view that is given: the object is copied with it, or it is shared where that fails."""
    owner = Ownership(safe_copies, "the source gave")
    counting, stuck = Thing(iter([1, 2, 3])), Thing(n for n in range(3))
    for thing in (counting, stuck):
        (given_,) = owner.each([thing])
        assert (given_ is thing) == (thing is stuck)
        assert list(given_.part) in ([1, 2, 3], [0, 1, 2])


def test_a_tracer_does_not_change_the_counts() -> None:
    """A debugger that looks at variables while the package is imported would make thresholds too high."""
    code = """
import sys
from types import FrameType
def look(frame, event, arg):
    frame.f_locals
    return look
sys.settrace(look); sys.setprofile(look)
from sluiceway.nodes.ownership import reference_counts
assert sys.gettrace() is look and sys.getprofile() is look
sys.settrace(None); sys.setprofile(None)
print([getattr(reference_counts, name) for name in NAMES])
"""
    names = ["GIVEN", "CALLED", "PASSED", "RESULT", "INPUT", "BESIDE", "LISTED", "REFERENT", "ATTRIBUTE"]
    done = subprocess.run(
        [sys.executable, "-c", code.replace("NAMES", repr(names))], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str([getattr(reference_counts, name) for name in names])


def test_without_the_interpreter_lock_what_can_change_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts tell nothing there, so the thresholds are below every count."""
    from sluiceway.nodes.ownership import ownership

    for module in (ownership, reference_counts):
        for name in ("CALLED", "GIVEN", "RESULT", "REFERENT", "INPUT", "BESIDE", "ATTRIBUTE", "PASSED"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, reference_counts.NEVER)
    monkeypatch.setattr(reference_counts, "TELL", False)
    owner = Ownership(safe_copies, "the source gave")
    made = [[1], {"a": 1}, Thing(), (1, 2), "x"]
    ids = {id(event) for event in made[:3]}
    assert not ids & {id(event) for event in owner.each(iter(made))}
    assert not ids & {id(event) for event in owner.all_of(list(made), alone=True)}
    assert list(owner.each([(1, 2), "x"])) == [(1, 2), "x"]
