"""What user code gives but nobody would run: awaited where handlers are, refused by name everywhere else, in every runner."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw

RUNNERS: list[Any] = [{"runner": "inline"}, {"workers": 1}, {}]
IDS = ["inline", "processes", "left out"]


async def later(*given: Any) -> Any:
    return given[0] if given else None


def plainly(*given: Any) -> Any:
    """Return a coroutine as a function does that does not look asynchronous."""
    return later(*given)


def lazily(*given: Any) -> Iterator[Any]:
    yield given


# -- sinks -------------------------------------------------------------------------------------------------------


class Store:
    """A sink whose members are plain; subclasses and tests replace one."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def write(self, events: Any) -> Any:
        self.seen += events

    def open(self) -> Any:
        return None

    def commit(self, n: int) -> Any:
        return n

    def recover(self, token: Any) -> int:
        return int(token)

    def claim(self, run: str, place: str) -> Any:
        return None

    def close(self) -> Any:
        return None

    def abort(self) -> Any:
        return None


@pytest.mark.parametrize("name", ["write", "open", "commit", "close", "abort", "recover", "claim"])
@pytest.mark.parametrize("kind", [later, lazily], ids=["async", "generator"])
def test_a_sink_whose_member_is_async_is_refused_while_the_graph_is_built(name: str, kind: Any) -> None:
    async def asynchronous(self: Any, *given: Any) -> None:
        raise AssertionError

    def generator(self: Any, *given: Any) -> Iterator[int]:
        yield 1

    cls = type("Bad", (Store,), {name: asynchronous if kind is later else generator})
    graph = sw.Graph()
    with pytest.raises(sw.GraphError, match=f"nothing awaits or iterates its {name}"):
        graph.source(range(3)).sink(cls())


@pytest.mark.parametrize("options", RUNNERS[:2], ids=IDS[:2])
@pytest.mark.parametrize("name", ["write", "open", "commit", "close"])
def test_what_a_sink_gives_yet_to_be_run_is_refused(name: str, options: Any, tmp_path: Path) -> None:
    store = Store()
    setattr(store, name, plainly)
    graph = sw.Graph()
    graph.source(range(3)).sink(store)
    with pytest.raises(sw.SinkError, match=rf"{name}\(\) of the sink gave a coroutine, which is not awaited here"):
        sw.run(graph, checkpoint=tmp_path / "store.db", **options)


@pytest.mark.parametrize("options", RUNNERS, ids=IDS)
@pytest.mark.parametrize(("function", "text"), [(later, "a coroutine"), (lazily, "a generator")], ids=["async", "generator"])
def test_what_the_function_of_a_sink_gives_is_refused(function: Any, text: str, options: Any) -> None:
    graph = sw.Graph()
    graph.source(range(3)).sink(lambda event: function(event) if event else None)
    with pytest.raises(sw.SinkError, match=f"failed on number 1: NotGiven: the function gave {text}"):
        sw.run(graph, **options)


def test_a_sink_may_hand_events_to_a_pool() -> None:
    from concurrent.futures import ThreadPoolExecutor

    seen: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        graph = sw.Graph()
        graph.source(range(5)).sink(lambda event: pool.submit(seen.append, event))
        sw.run(graph, runner="inline")
    assert seen == list(range(5))


# -- handlers ----------------------------------------------------------------------------------------------------

HANDLERS: dict[str, Callable[[Any], Any]] = {
    "map": lambda s: s.map(plainly),
    "filter": lambda s: s.filter(plainly),
    "filter by a generator": lambda s: s.filter(lambda e: (k for k in [e])),
    "flat_map": lambda s: s.flat_map(lambda e: later([e])),
    "map_batches": lambda s: s.map_batches(plainly),
    "map_batches of coroutines": lambda s: s.map_batches(lambda batch: [later(e) for e in batch]),
    "key": lambda s: s.key_by(plainly).count(),
    "scan": lambda s: s.scan(lambda state, e: (state, later(e)), 0),
    "reduce": lambda s: s.key_by(lambda e: 0).reduce(lambda a, b: later(a)),
    "time": lambda s: s.key_by(lambda e: 0).window(sw.tumbling(2), time=plainly).count(),
}


@pytest.mark.parametrize("options", RUNNERS[:2], ids=IDS[:2])
@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_what_a_handler_gives_yet_to_be_awaited_is_refused(name: str, options: Any) -> None:
    graph = sw.Graph()
    HANDLERS[name](graph.source(range(3))).sink(lambda event: None)
    with pytest.raises(sw.HandlerError, match=r"gave an? (coroutine|generator)"):
        sw.run(graph, **options)


@pytest.mark.parametrize("options", RUNNERS[:2], ids=IDS[:2])
def test_a_plain_handler_beside_an_async_one_is_not_awaited_either(options: Any) -> None:
    """Whether a coroutine is awaited depends on the function that gives it, not on what else is in its pool."""
    graph = sw.Graph()
    graph.source(range(3)).map(later).map(plainly).sink(lambda event: None)
    with pytest.raises(sw.HandlerError, match="gave a coroutine, which nobody awaits; await it, in an `async def`"):
        sw.run(graph, **options)


class Frame:
    """A frame as far as its name tells; pandas need not be there."""

    def itertuples(self) -> None:
        """Mark it as one of pandas."""

    def __iter__(self) -> Iterator[str]:
        return iter(["a", "b"])

    def __len__(self) -> int:
        return 2


Frame.__name__ = Frame.__qualname__ = "DataFrame"
Frame.__module__ = "pandas.core.frame"


def framed() -> Any:
    return Frame()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (lambda: {"a": 1, "b": 2}, "a dict"), (Frame, "DataFrame"), (lambda: {1, 2}, "a set"), (lambda: "ab", "a str"),
        (lambda: b"ab", "a bytes"), ({"a": 1, "b": 2}.keys, "dict_keys"),
    ],
)  # fmt: skip
def test_map_batches_takes_sequences_only(given: Callable[[], Any], text: str) -> None:
    graph = sw.Graph()
    graph.source(range(2)).map_batches(lambda batch: given(), batch_size=2).sink(print)
    with pytest.raises(sw.HandlerError, match=f"gave an? {text.removeprefix('a ')}|gave a pandas.core.frame.{text}"):
        sw.run(graph, runner="inline")


def test_a_frame_or_a_mapping_is_no_stream_of_events() -> None:
    graph = sw.Graph()
    with pytest.raises(sw.GraphError, match="gives its columns, not its rows"):
        graph.source(Frame())
    for given in (Frame, lambda: {"a": 1}):
        graph = sw.Graph()
        graph.source(given if given is not Frame else framed).sink(print)
        with pytest.raises(sw.SourceError, match="taken one by one"):
            sw.run(graph, runner="inline")
        graph = sw.Graph()
        graph.source([1]).flat_map(lambda e, given=given: given()).sink(print)
        with pytest.raises(sw.HandlerError, match="flat_map takes its parts one by one"):
            sw.run(graph, runner="inline")


# -- closes, setups, locks, readers, keys ----------------------------------------------------------------------------


class ClosesLater:
    """A plain handler whose clean-up is awaited."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: int) -> int:
        return event

    async def close(self) -> None:
        self.path.write_text(threading.current_thread().name)


@pytest.mark.parametrize("options", RUNNERS[:2], ids=IDS[:2])
def test_an_async_close_is_awaited(options: Any, tmp_path: Path) -> None:
    graph = sw.Graph()
    graph.source(range(3)).map(sw.per_worker(ClosesLater, tmp_path / "closed")).sink(lambda event: None)
    sw.run(graph, **options)
    assert (tmp_path / "closed").exists()


class ClosesLetters(ClosesLater):
    pass


def test_an_async_close_beside_the_sinks_is_awaited(tmp_path: Path) -> None:
    graph = sw.Graph()
    graph.source(["a"]).map(int, on_error="dead_letter").sink(print)
    graph.dead_letters().map(sw.per_worker(ClosesLetters, tmp_path / "closed")).sink(lambda event: None)
    sw.run(graph, runner="inline")
    assert (tmp_path / "closed").exists()


@pytest.mark.parametrize("options", RUNNERS[:2], ids=IDS[:2])
def test_a_setup_that_is_not_awaited_is_refused(options: Any) -> None:
    graph = sw.Graph()
    graph.source(range(3)).map(str).sink(lambda event: None)
    with pytest.raises(sw.SluicewayError, match="setup= gave a coroutine"):
        sw.run(graph, setup=plainly, **options)


def test_progress_that_is_not_awaited_is_refused() -> None:
    graph = sw.Graph()
    graph.source(range(3)).map(str).sink(lambda event: None)
    with pytest.raises(sw.GraphError, match="progress=: it is called, not awaited"):
        sw.run(graph, runner="inline", progress=later)
    with pytest.raises(TypeError, match="progress= gave a coroutine"):
        sw.run(graph, runner="inline", progress=plainly)


class Lock:
    fenced = False

    def acquire(self) -> Any:
        return 1

    def check(self) -> Any:
        return None

    def release(self) -> Any:
        return None


def test_a_lock_that_is_not_awaited_is_refused() -> None:
    graph = sw.Graph()
    graph.source(range(3)).map(str).sink(lambda event: None)
    for name in ("acquire", "check", "release"):

        async def member(self: Any) -> int:
            return 1

        with pytest.raises(sw.GraphError, match=f"nothing awaits its {name}"):
            sw.run(graph, runner="inline", lock=type("Bad", (Lock,), {name: member})())
    for name in ("acquire", "check"):
        lock = Lock()
        setattr(lock, name, plainly)
        with pytest.raises(sw.LockError, match=rf"{name}\(\) of the lock gave a coroutine|its check failed"):
            sw.run(graph, runner="inline", lock=lock)


class Reader:
    def read(self, limit: int) -> Any:
        return None

    def position(self) -> Any:
        return 0

    def close(self) -> Any:
        return None


class Source:
    def __init__(self, reader: Any) -> None:
        self.made = reader

    def reader(self, position: Any) -> Any:
        return self.made


@pytest.mark.parametrize("options", RUNNERS[:2], ids=IDS[:2])
def test_a_reader_that_is_not_awaited_is_refused(options: Any) -> None:
    class Reads(Reader):
        async def read(self, limit: int) -> Any:
            return [1]

    class ReadsOne(Reader):
        def read(self, limit: int) -> Any:
            return later([1])

    class Yields(Reader):
        def read(self, limit: int) -> Any:
            return (n for n in range(3))

    for reader, text in (
        (Reads(), "nothing awaits or iterates its read"), (ReadsOne(), "gave a coroutine"), (Yields(), "gave a generator"),
    ):  # fmt: skip
        graph = sw.Graph()
        graph.source(Source(reader)).sink(lambda event: None)
        with pytest.raises(sw.SluicewayError, match=text):
            sw.run(graph, **options)


def test_the_key_of_a_merge_that_is_not_awaited_is_refused() -> None:
    graph = sw.Graph()
    graph.sequence(graph.source([1, 2], name="a"), graph.source([1], name="b"), key=plainly).sink(print)
    with pytest.raises(sw.SourceError, match="key= gave a coroutine"):
        sw.run(graph, runner="inline")
