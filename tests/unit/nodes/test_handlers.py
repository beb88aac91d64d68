"""What a handler is: functions, handler classes, per_worker; which of them are async, and how they are built."""

from __future__ import annotations

import asyncio
import functools
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
import sluiceway as sw
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.handlers import build, build_all, is_async, is_generator, is_handler_class, needs_build, per_worker

T = TypeVar("T")
#: For calls that a type checker refuses as well.
untyped: Any = per_worker


class Scale:
    def __init__(self, factor: int = 2, *, offset: int = 0) -> None:
        self.factor, self.offset, self.closed = factor, offset, False

    def __call__(self, event: int) -> int:
        return event * self.factor + self.offset

    def close(self) -> None:
        self.closed = True


class Inherited(Scale):
    pass


class Fetch:
    async def __call__(self, event: int) -> int:
        return event


class Boxed(Generic[T]):
    def __call__(self, event: T) -> T:
        return event


class Meta(type):
    pass


async def fetch(event: int) -> int:
    return event


async def fetch_with(session: str, event: int) -> int:
    return event


async def pages(event: int) -> AsyncIterator[int]:
    yield event


def halves(event: int) -> Iterator[int]:
    yield event


def make_fetch() -> Fetch:
    return Fetch()


def make_scale(factor: int) -> Scale:
    return Scale(factor)


@pytest.mark.parametrize("subject", [Scale, Inherited, Fetch, Boxed, Boxed[int]])
def test_classes_with_callable_instances_are_built(subject: Any) -> None:
    assert is_handler_class(subject)
    assert needs_build(subject)


@pytest.mark.parametrize(
    "subject", [int, str, Path, dict, type, Meta, list[int], len, fetch, Scale(), lambda event: event, "".join, None]
)
def test_everything_else_is_an_ordinary_function(subject: Any) -> None:
    assert not is_handler_class(subject)
    assert not needs_build(subject)
    assert build(subject) == (subject, None)


@pytest.mark.parametrize(
    "subject", [fetch, Fetch, Fetch(), Fetch().__call__, per_worker(Fetch), functools.partial(fetch_with, "s"), pages]
)
def test_async_handlers_are_seen(subject: Any) -> None:
    assert is_async(subject)


@pytest.mark.parametrize(
    "subject", [len, int, Scale, Scale(), per_worker(Scale), halves, per_worker(make_scale, 3), functools.partial(max)],
)
def test_sync_handlers_are_not_async(subject: Any) -> None:
    assert not is_async(subject)


def test_generators_are_seen() -> None:
    assert is_generator(halves)
    assert is_generator(pages)
    assert is_generator(functools.partial(halves))
    assert not is_generator(fetch)
    assert not is_generator(Scale)


def test_a_class_is_built_without_arguments_and_closed_by_its_own_method() -> None:
    handler: Any
    handler, close = build(Scale)
    assert handler(4) == 8
    assert close is not None
    close()
    assert handler.closed


def test_per_worker_builds_a_new_object_each_time_with_its_arguments() -> None:
    subject = per_worker(Scale, 3, offset=1)
    first, _ = build(subject)
    second, _ = build(subject)
    assert first(5) == second(5) == 16
    assert first is not second


def test_per_worker_takes_a_function_that_makes_the_handler() -> None:
    handler, close = build(per_worker(make_scale, 7))
    assert handler(2) == 14
    assert close is not None


def test_a_handler_without_close_has_none() -> None:
    handler, close = build(Fetch)
    assert close is None
    assert asyncio.run(handler(3)) == 3


def test_an_instance_is_not_closed() -> None:
    instance = Scale()
    assert build(instance) == (instance, None)


def test_per_worker_survives_pickling() -> None:
    handler, _ = build(pickle.loads(pickle.dumps(per_worker(Scale, 3, offset=1))))
    assert handler(5) == 16


def test_per_worker_is_frozen_and_tells_no_arguments() -> None:
    subject: Any = per_worker(Scale, 31337)
    with pytest.raises(AttributeError):
        subject.args = ()
    assert repr(subject) == "per_worker(Scale, ...)"


def test_per_worker_is_not_called_where_it_was_made() -> None:
    with pytest.raises(TypeError, match=r"call Scale\(\.\.\.\) itself"):
        per_worker(Scale)(1)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: untyped(Path, "a"), "instances cannot be called"),
        (lambda: untyped(Scale, 1, 2, 3), "the arguments do not fit"),
        (lambda: untyped(Scale, factr=1), "the arguments do not fit"),
        (lambda: untyped(Scale(1), 2, 3), "the arguments do not fit"),
        (lambda: untyped(per_worker(Scale)), "name the class once"),
        (lambda: untyped(3), "given an int"),
    ],
)
def test_per_worker_refuses_what_cannot_be_built(make: Any, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        make()


def test_a_function_that_makes_no_handler_is_found_when_it_is_built() -> None:
    with pytest.raises(TypeError, match="gave an int, which cannot be called"):
        build(untyped(lambda: 3))


def test_a_function_that_makes_an_async_handler_is_told_to_give_the_class() -> None:
    with pytest.raises(TypeError, match="give per_worker the class"):
        build(per_worker(make_fetch))


def test_a_constructor_knows_its_node_and_its_worker() -> None:
    class Placed:
        def __init__(self) -> None:
            self.place = sw.current()

        def __call__(self, event: int) -> sw.Context:
            return self.place

    plain, placed = build_all([len, Placed], [], nodes=["length", "model"], worker=3)
    assert plain is len
    assert placed is not None
    assert placed(1) == sw.Context(-1, -1, "model", 0, 3)
    with pytest.raises(LookupError, match="outside a handler"):
        sw.current()


@pytest.mark.parametrize("options", [{"runner": "inline"}, {"workers": 2}])
@pytest.mark.parametrize("is_async", [False, True])
def test_every_worker_builds_with_its_own_number(options: dict[str, Any], is_async: bool) -> None:
    class Placed:
        def __init__(self) -> None:
            self.worker, self.node = sw.current().worker, sw.current().node

        def __call__(self, event: int) -> tuple[int, int, str]:
            return self.worker, sw.current().worker, self.node

    class AsyncPlaced(Placed):
        async def __call__(self, event: int) -> tuple[int, int, str]:  # type: ignore[override]
            return super().__call__(event)

    graph = sw.Graph()
    placed = graph.source(range(200)).map(AsyncPlaced if is_async else Placed, name="model")
    found = list(sw.iterate(placed, **options))
    assert all(built == called and node == "model" for built, called, node in found)
    assert {built for built, *_ in found} <= {0, 1}
