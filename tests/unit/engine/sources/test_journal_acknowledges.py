"""What a journaled source is told of its events, and which sources of a graph are journaled."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from journal_readers import MANY, Numbered, Session, _Reads, path, read
from sluiceway.engine.sources.journaled import Journaled

__all__ = ["path"]


# -- what the source is told ------------------------------------------------------------------------------------


class _Journals(_Reads):
    def journaled(self, position: int) -> None:
        self.said.append(("journaled", position))

    def acknowledge(self, position: int) -> None:
        self.said.append(("acknowledge", position))


class _Acknowledges(_Reads):
    acknowledge = _Journals.acknowledge


@pytest.mark.parametrize(
    ("make", "acknowledges", "said"),
    [
        (_Journals, True, [("journaled", 1010)]),
        (_Journals, False, [("journaled", 1010)]),
        (_Acknowledges, True, [("acknowledge", 1010)]),
        (_Acknowledges, False, []),
        (_Reads, False, []),
    ],
)
def test_a_source_hears_when_its_events_are_stored(path: Path, make: Any, acknowledges: bool, said: list[Any]) -> None:
    source = Numbered(make, acknowledges)
    reader = Journaled(source, path, "it", afresh=True).reader(None)
    count = []
    told = getattr(make, "journaled", None) or getattr(make, "acknowledge", None)

    class Watching(make):  # type: ignore[misc]
        def journaled(self, position: int) -> None:
            count.append(reader._file.count)
            told(self, position)  # type: ignore[misc]

    if make is _Journals:
        source.make = Watching
    assert reader.read(3, MANY) == [0, 1, 2]
    assert source.opened.said == said
    assert reader.position() == 3
    reader.acknowledge(3)  # what is committed is the journal's affair alone
    assert read(reader, 7) == list(range(3, 10))
    assert reader.read(1, MANY) == []
    reader.close()
    assert source.opened.said == [*said, "closed"]
    assert count == ([10] if make is _Journals else [])


def test_a_source_that_says_its_end_is_not_opened_again(path: Path) -> None:
    class Ends(_Reads):
        def read(self, limit: int, max_bytes: int) -> Any:
            return super().read(limit, max_bytes) or None

    source = Numbered(Ends)
    reader = Journaled(source, path, "it", afresh=True).reader(None)
    assert read(reader) == list(range(10))
    reader.close()
    reader = Journaled(Numbered(lambda: pytest.fail("opened again")), path, "it").reader(4)
    assert read(reader) == list(range(4, 10))
    reader.close()


def test_nothing_is_told_of_events_that_could_not_be_stored(path: Path) -> None:
    class Bad(_Journals):
        rows: Sequence[Any] = [1, threading.Lock()]

    source = Numbered(Bad, True)
    reader = Journaled(source, path, "it", afresh=True).reader(None)
    assert read(reader, 1) == [1]
    with pytest.raises(sw.SourceError):
        read(reader)
    reader.close()
    assert source.opened.said == ["closed"]


# -- graphs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [[1], range(3), {1}, sw.lines("a.log"), sw.every(1.0)], ids=repr)
def test_what_can_be_read_again_needs_no_journal(subject: Any) -> None:
    with pytest.raises(sw.GraphError, match="can be read again; leave journal out"):
        sw.Graph("g").source(subject, journal=True)


def test_a_graph_knows_what_is_journaled() -> None:
    graph = sw.Graph("g")
    with pytest.raises(sw.GraphError, match="journal='yes'; use True or False"):
        graph.source(Session(1), journal="yes")  # type: ignore[arg-type]
    plain = graph.source(Session(1), name="plain")
    iterator = graph.source(iter([1]), name="iterator", journal=True)
    stdin = graph.source(sw.lines("-"), name="stdin", journal=True)
    hook = graph.source(sw.webhook(), name="hook", journal=True)
    graph.sequence(plain, iterator, stdin, hook).sink(print)
    assert [node.journal for node in graph.nodes[:4]] == [False, True, True, True]
    table = {row[1]: row[3] for row in sw.compile(graph, workers=1).rows()}
    assert "journaled" not in table["plain"]
    assert all(table[name].endswith("; with checkpoint= journaled") for name in ("iterator", "stdin", "hook"))


def test_without_checkpoints_a_journal_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph, results = sw.Graph("g"), []  # type: tuple[sw.Graph, list[Any]]
    graph.source(Session(3), journal=True).sink(results.append)
    sw.run(graph, runner="inline")
    assert results == [(1, 0), (1, 1), (1, 2)]
    assert list(tmp_path.iterdir()) == []
