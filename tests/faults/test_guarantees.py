"""What `docs/guarantees.md` shows is what users see: every text in it is produced here and compared.

A text stands in a fenced block whose info string is `text NAME`; `<word>` in it stands for what must vary.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
import zmq
from fault_events import Event, locked, parse, unreadable
from fault_graphs import die, look_inside, until
from fault_handlers import Doomed, Model, broken_source, crash, sleep

HERE = Path(__file__).parent
PAGE = (HERE.parent.parent / "docs" / "guarantees.md").read_text()
TEXTS: dict[str, str] = dict(re.findall(r"^```text (\S+)\n(.*?)\n```$", PAGE, re.M | re.S))


def words() -> list[str]:
    return ["0", "1", "two", "3"]


def failing(graph: sw.Graph, **options: Any) -> str:
    """Run a graph that must fail; gives what the end of its traceback shows."""
    with pytest.raises(sw.SluicewayError) as caught:
        sw.run(graph, **{"workers": 1, **options})
    return f"{type(caught.value).__name__}: {caught.value}"


def parsing(**options: Any) -> sw.Graph:
    graph = sw.Graph("numbers")
    graph.source(words()).map(parse, **options).sink(lambda n: None, name="out")
    return graph


def through(handler: Any, count: int = 5, **options: Any) -> sw.Graph:
    graph = sw.Graph("numbers")
    graph.source(range(count)).map(handler, **options).sink(lambda n: None, name="out")
    return graph


def letters_of(graph: sw.Graph) -> str:
    letters: list[sw.DeadLetter] = []
    graph.dead_letters().sink(letters.append)
    sw.run(graph, workers=1)
    return letters[0].error


def logged(act: Callable[[], object]) -> str:
    """Return the first warning of sluiceway while `act` runs."""
    records: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING and "one is being started" not in record.getMessage():
                records.append(record.getMessage())

    ear = Ear()
    logging.getLogger("sluiceway").addHandler(ear)
    try:
        act()
    finally:
        logging.getLogger("sluiceway").removeHandler(ear)
    return records[0]


def killed_once(folder: Path) -> str:
    told = str(folder / "told")

    def resize(n: int) -> int:
        if n == 2 and not os.path.exists(told):
            Path(told).touch()
            die("kill")
        return n

    return logged(lambda: sw.run(through(resize), workers=1, max_events_per_worker=10**9))


def dying_source(folder: Path) -> str:
    told = str(folder / "told")

    def read() -> Iterator[int]:
        yield from range(3)
        until(lambda: os.path.exists(told))
        die("kill")

    graph = sw.Graph("numbers")
    graph.source(read, name="feed").map(abs).sink(lambda n: Path(told).touch() if n == 2 else None, name="out")
    return failing(graph)


def source_graph(source: Any) -> sw.Graph:
    graph = sw.Graph("numbers")
    graph.source(source, name="feed").map(abs).sink(lambda n: None, name="out")
    return graph


def sink_graph() -> sw.Graph:
    def store(n: int) -> None:
        if n == 2:
            raise OSError("disk full")

    graph = sw.Graph("numbers")
    graph.source(range(5)).map(abs).sink(store)
    return graph


def stuck(folder: Path) -> str:
    free = str(folder / "free")

    def solve(n: int) -> int:
        while n == 0 and not os.path.exists(free):
            pass
        return n

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "its stack" in record.getMessage():
                Path(free).touch()

    ear = Ear()
    logging.getLogger("sluiceway").addHandler(ear)
    try:
        return logged(lambda: sw.run(through(solve, timeout_s=60), workers=1, stall_warning_s=0.3))
    finally:
        logging.getLogger("sluiceway").removeHandler(ear)


def slow_consumer() -> str:
    def look() -> None:
        with sw.imap(abs, iter(range(10**9)), workers=1, stall_warning_s=0.3) as results:
            next(results)
            until(lambda: seen)

    seen: list[int] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "consumer" in record.getMessage():
                seen.append(1)

    ear = Ear()
    logging.getLogger("sluiceway").addHandler(ear)
    try:
        return logged(look)
    finally:
        logging.getLogger("sluiceway").removeHandler(ear)


def zygote_death(folder: Path) -> str:
    told = str(folder / "told")

    def strike(n: int) -> int:
        if n == 2 and not os.path.exists(told):
            Path(told).touch()
            os.kill(os.getppid(), 9)
            until(lambda: False, 5)
        return n

    return logged(lambda: sw.run(through(strike), workers=1))


def stranger(monkeypatch: pytest.MonkeyPatch) -> str:
    inside = look_inside(monkeypatch)
    results = sw.imap(abs, iter(range(10**9)), workers=1)
    next(results)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.IDENTITY, b"mallory")
        dealer.connect(inside.address())
        dealer.send(b"anything")
        with pytest.raises(sw.ProtocolError) as caught:
            deque(results, 0)
    return f"ProtocolError: {caught.value}"


def events() -> list[Any]:
    return [0, 1, Event(), 3]


def unreadable_events() -> sw.Graph:
    graph = sw.Graph("numbers")
    graph.source(events()).map(str).sink(lambda n: None, name="out")
    return graph


def grouped() -> sw.Graph:
    graph = sw.Graph("numbers")
    graph.source(itertools.groupby([1, 1, 2])).map(len).sink(print, name="out")
    return graph


async def fetch(n: int) -> int:
    return n


def later(n: int) -> Any:
    return fetch(n)


PRODUCERS: dict[str, Callable[..., str]] = {
    "handler-fail": lambda: failing(parsing()),
    "handler-retries": lambda: failing(parsing(retries=2)),
    "handler-skip": lambda: logged(lambda: sw.run(parsing(on_error="skip"), workers=1)),
    "handler-letter": lambda: letters_of(parsing(on_error="dead_letter")),
    "worker-killed": killed_once,
    "worker-poison": lambda: failing(through(crash)),
    "worker-poison-letter": lambda: letters_of(through(crash, on_error="dead_letter")),
    "worker-start-raises": lambda: failing(through(Model)),
    "worker-start-dies": lambda: failing(through(Doomed)),
    "timeout": lambda: failing(through(sleep, timeout_s=0.1)),
    "source-raises": lambda: failing(source_graph(broken_source)),
    "source-dies": dying_source,
    "sink-raises": lambda: failing(sink_graph()),
    "starter-dies": zygote_death,
    "stall-handler": stuck,
    "stall-consumer": slow_consumer,
    "garbage": stranger,
    "view": lambda: failing(grouped()),
    "unrun": lambda: failing(through(later)),
    "event-unpack": lambda: failing(unreadable_events()),
    "result-pack": lambda: failing(through(locked)),
    "result-unpack": lambda: failing(through(unreadable)),
}


def squeezed(text: str) -> str:
    return " ".join(text.split())


def matches(shown: str, produced: str) -> bool:
    """Whether a text of the page is the produced one, but for line ends and what stands in pointed brackets."""
    parts = re.split(r"<[a-z ]+>", squeezed(shown))
    return re.fullmatch(".+?".join(map(re.escape, parts)), squeezed(produced)) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="the page shows what Linux says")
@pytest.mark.parametrize("name", PRODUCERS)
def test_the_page_shows_what_users_see(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    producer: Any = PRODUCERS[name]
    needs = {"folder": tmp_path, "monkeypatch": monkeypatch}
    wanted = producer.__code__.co_varnames[: producer.__code__.co_argcount]
    produced = producer(*[needs[word] for word in wanted])
    shown = TEXTS.get(name, "")
    assert matches(shown, produced), f"docs/guarantees.md shows another text for {name}; this is it:\n{produced}"


def test_every_text_is_produced() -> None:
    assert set(TEXTS) == set(PRODUCERS)


def test_placeholders_are_few() -> None:
    """Only what must vary may be left open."""
    used = set(re.findall(r"<([a-z ]+)>", "".join(TEXTS.values())))
    assert used <= {"pid", "worker", "seconds", "stack", "thread", "path"}


def test_the_tests_it_names_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 30
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (HERE / file).read_text()]
    assert missing == []
