"""An event belongs to the engine from the yield on: what user code fills again and again comes out as a plain loop sees it."""

from __future__ import annotations

import io
import itertools
import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import reused_events as reused
import sluiceway as sw

RUNNERS: list[Any] = [{"runner": "inline"}, {"workers": 1}, {}]
IDS = ["inline", "processes", "left out"]


def results(source: Any, add: Any, **options: Any) -> list[Any]:
    graph, seen = sw.Graph(), []
    add(graph.source(source)).sink(seen.append)
    sw.run(graph, **options)
    return seen


@pytest.mark.parametrize("options", RUNNERS, ids=IDS)
@pytest.mark.parametrize("name", reused.SOURCES)
def test_a_source_fills_one_object_again(name: str, options: Any) -> None:
    assert results(reused.SOURCES[name](), lambda s: s.map(reused.look), **options) == reused.expected()


@pytest.mark.parametrize("options", RUNNERS, ids=IDS)
@pytest.mark.parametrize("name", reused.HANDLERS)
def test_a_handler_gives_one_object_again(name: str, options: Any) -> None:
    """With the next handler beside it and, behind a barrier, in another pool."""
    add = reused.HANDLERS[name]
    source = range(reused.COUNT)
    assert results(source, lambda s: add(s).map(reused.look), **options) == reused.expected()
    if "runner" not in options:
        assert results(source, lambda s: add(s).barrier().map(reused.look), **options) == reused.expected()


def test_a_merged_and_a_resumed_source_fill_one_object_again(tmp_path: Path) -> None:
    for options in RUNNERS[:2]:
        graph, seen = sw.Graph(), []
        sources = [graph.source(reused.generator, name="a"), graph.source(reused.generator(), name="b")]
        graph.sequence(*sources, order="round_robin").map(reused.look).sink(seen.append)
        sw.run(graph, **options)
        assert sorted(map(repr, seen)) == sorted(map(repr, reused.expected() * 2))
    for journal in (False, True):
        graph, seen = sw.Graph(), []
        graph.source(reused.generator, journal=journal).map(reused.look).sink(seen.append)
        sw.run(graph, workers=1, checkpoint=tmp_path / f"state{journal}.db")
        assert seen == reused.expected()


# -- what people write -------------------------------------------------------------------------------------------

XML = b"<t>%s</t>" % b"".join(b"<row><v>%d</v></row>" % n for n in range(8))


def rows_of_xml() -> Iterator[Any]:
    for _, element in ElementTree.iterparse(io.BytesIO(XML)):
        if element.tag == "row":
            yield element
            element.clear()


def text_of(row: Any) -> str:
    return str(row.findtext("v"))


def frames() -> Iterator[Any]:
    buffer = bytearray(8)
    stream = io.BytesIO(bytes(range(64)))
    while stream.readinto(buffer):
        yield buffer


def sliding() -> Iterator[Any]:
    """Give the window of the last three numbers, which is one list."""
    window: list[int] = []
    for n in range(20):
        window.append(n)
        if len(window) > 3:
            window.pop(0)
        yield window


def with_a_shared_header() -> Iterator[Any]:
    header = {"at": 0}
    for n in range(20):
        header["at"] = n
        yield {"header": header, "n": n}


def linked() -> Iterator[Any]:
    """Give an event and write into it when the next one is known."""
    before: dict[str, Any] | None = None
    for n in range(20):
        event = {"n": n, "next": None}
        if before is not None:
            before["next"] = n
        yield event
        before = event


class Previous:
    """Writes into the event before."""

    def __init__(self) -> None:
        self.before: dict[str, Any] = {}

    def __call__(self, n: int) -> dict[str, Any]:
        self.before["next"] = n
        self.before = {"n": n}
        return self.before


class Marks:
    """Gives its own input, and writes into it when the next one comes."""

    def __init__(self) -> None:
        self.before: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        self.before["next"] = event["n"]
        self.before = event
        return event


@pytest.mark.parametrize("options", RUNNERS, ids=IDS)
@pytest.mark.parametrize(
    ("source", "handler", "look"),
    [
        (rows_of_xml, None, text_of),
        (frames, None, bytes),
        (sliding, None, list),
        (with_a_shared_header, None, repr),
        (linked, None, repr),
        (range(50), Previous, repr),
        ([{"n": n} for n in range(50)], Marks, repr),
    ],
    ids=["iterparse", "readinto", "window", "header", "linked", "before", "input"],
)
def test_everyday_code(source: Any, handler: Any, look: Any, options: Any) -> None:
    made = handler() if handler is not None else lambda event: event
    given = [dict(event) if isinstance(event, dict) else event for event in source] if handler else source()
    right = [look(made(event)) for event in given]
    add = (lambda s: s.map(handler).map(look)) if handler is not None else (lambda s: s.map(look))
    assert results(source, add, **options) == right
    if not callable(source):
        return
    assert results(source(), add, **options) == right


# -- what captures or shows what changes ---------------------------------------------------------------------------


def tasks() -> Iterator[Any]:
    """Give functions of a variable that changes; one, two and itself among what they see."""
    buffer = [0]
    for n in range(6):
        buffer[0] = n

        def task() -> Any:
            return n, buffer[0], task.__name__  # noqa: B023 (that is the point)

        yield task


def tasks_with_arguments() -> Iterator[Any]:
    for n in range(6):
        yield (lambda k: (n, k)), n  # noqa: B023


def call(task: Any) -> Any:
    return task[0](task[1]) if isinstance(task, tuple) else task()


@pytest.mark.parametrize("options", RUNNERS, ids=IDS)
@pytest.mark.parametrize("source", [tasks, tasks_with_arguments])
def test_a_function_sees_the_variables_of_its_moment(source: Any, options: Any) -> None:
    right = [call(task) for task in source()]
    assert results(source(), lambda s: s.map(call), **options) == right
    assert results(source, lambda s: s.map(call), **options) == right


def matches() -> Iterator[Any]:
    buffer = bytearray(b"a1")
    for n in range(3):
        buffer[1:] = b"%d" % n
        yield re.match(rb"a(\d)", buffer)


def test_a_match_in_what_changes_is_a_view() -> None:
    with pytest.raises(sw.SourceError, match=r"an? re\.Match"):
        results(matches(), lambda s: s.map(lambda match: match[1]), runner="inline")
    found = results(["a1", "a2"], lambda s: s.map(re.compile(r"a(\d)").match).map(lambda m: m[1]), runner="inline")
    assert found == ["1", "2"]


def test_a_filter_takes_any_truth() -> None:
    truths = [np.bool_(True), 1, "x", [0], None, 0.0, re.match("a", "a"), np.float64(2)]
    kept = results(range(len(truths)), lambda s: s.filter(truths.__getitem__), runner="inline")
    assert kept == [0, 1, 2, 3, 6, 7]


# -- what only looks into its iterator -----------------------------------------------------------------------------


class Cursor:
    """An iterator of Python over a connection, which nobody can copy."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> int:
        return 1


def groups() -> Iterator[Any]:
    yield from itertools.groupby("aabbbc")


def chunks() -> Iterator[Any]:
    rest = iter(range(10))
    for _ in range(3):
        yield itertools.islice(rest, 3)


def generators() -> Iterator[Any]:
    for n in range(3):
        yield (k for k in range(n))


def views() -> Iterator[Any]:
    buffer = bytearray(8)
    yield memoryview(buffer)


def entries() -> Iterator[Any]:
    yield {"a": 1}.items()


def maps() -> Iterator[Any]:
    yield [map(str, range(3))]


def cursors() -> Iterator[Any]:
    yield sqlite3.connect(":memory:").execute("select 1")


def cursors_of_python() -> Iterator[Any]:
    cursor = Cursor()
    yield cursor


def open_files() -> Iterator[Any]:
    with open(__file__) as file:
        yield file


async def one() -> int:
    return 1


def coroutines() -> Iterator[Any]:
    yield one()


def futures() -> Iterator[Any]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(int, 1)


VIEWS = [
    (groups, r"a tuple that holds an itertools._grouper, .*\(key, list\(group\)\)"),
    (chunks, r"an itertools.islice, .*list\(it\)"),
    (generators, r"a generator, .*list\(it\)"),
    (views, r"a memoryview, .*bytes\(view\)"),
    (entries, r"a dict_items, .*list\(it\)"),
    (maps, r"a list that holds a map"),
    (cursors, "an? sqlite3.Cursor"),
    (cursors_of_python, "Cursor"),
    (open_files, "an? _io.TextIOWrapper"),
    (coroutines, "a coroutine, which nobody awaits"),
    (futures, r"a concurrent.futures._base.Future, .*result\(\)"),
]


@pytest.mark.parametrize(("source", "text"), VIEWS, ids=[source.__name__ for source, _ in VIEWS])
def test_a_view_is_refused_by_name(source: Any, text: str) -> None:
    """Wherever the engine takes events: from a source, in every runner, from a handler, from a generator of a handler."""
    for options in RUNNERS:
        with pytest.raises(sw.SourceError, match=text):
            results(source(), lambda s: s.map(id), **options)
    with pytest.raises(sw.SourceError, match=text):
        results(source, lambda s: s.map(id), workers=1)
    with pytest.raises(sw.HandlerError, match=text):
        results(range(3), lambda s: s.flat_map(lambda n: source()).map(id), runner="inline")
    if source is not open_files:
        with pytest.raises(sw.HandlerError, match=text):
            results(range(3), lambda s: s.map(lambda n: next(source())).map(id), runner="inline")
        with pytest.raises(sw.HandlerError, match=text):
            results(range(3), lambda s: s.map_batches(lambda batch: [next(source()) for _ in batch]), runner="inline")


def test_a_handler_may_give_open_files(tmp_path: Path) -> None:
    paths = []
    for n in range(3):
        paths.append(tmp_path / str(n))
        paths[-1].write_text(f"text {n}")

    def read(file: Any) -> str:
        with file:
            return str(file.read())

    for options in RUNNERS:
        assert results(paths, lambda s: s.map(open).map(read), **options) == ["text 0", "text 1", "text 2"]


# -- what need not be copied ---------------------------------------------------------------------------------------


def test_what_is_fresh_or_the_engines_own_is_not_copied() -> None:
    """An object that nobody else has goes through as it is: seen by objects that must not be copied."""

    class Fragile:
        def __init__(self, n: int) -> None:
            self.n = n

        def __deepcopy__(self, memo: object) -> None:
            raise AssertionError("copied")

        __reduce_ex__ = __deepcopy__  # type: ignore[assignment]

    def fresh() -> Iterator[Any]:
        for n in range(20):
            yield Fragile(n)

    class Keeps:
        def __init__(self, event: Any) -> None:
            self.event = event

    def inside(event: Any) -> Any:
        return {"part": [event], "n": event.n}

    def out(event: Any) -> Any:
        return event["part"][0]

    seen = results(
        fresh(),
        lambda s: s.map(lambda e: e).map(inside).map(lambda e: {**e, "x": 1}).map(out).flat_map(lambda e: [e]).map(Keeps)
        .map_batches(lambda batch: batch).map(lambda kept: kept.event).filter(lambda e: e.n >= 0).map(lambda e: e.n),
        runner="inline",
    )
    assert seen == list(range(20))


def test_what_cannot_be_copied_is_shared_and_the_rest_is_not() -> None:
    connection = sqlite3.connect(":memory:")
    buffer = [0]

    def share(n: int) -> Any:
        buffer[0] = n
        return connection, buffer

    seen = results(range(9), lambda s: s.map(share).map(lambda e: (e[0] is connection, e[1][0])), runner="inline")
    assert seen == [(True, n) for n in range(9)]
    connection.close()


def test_arrays_keep_their_layout_when_they_are_copied() -> None:
    base = np.asfortranarray(np.arange(12.0).reshape(3, 4))

    def turn(n: int) -> Any:
        base[0, 0] = n
        return base

    flags = results(range(3), lambda s: s.map(turn).map(lambda a: (a[0, 0], a.flags.f_contiguous)), runner="inline")
    assert flags == [(0.0, True), (1.0, True), (2.0, True)]
