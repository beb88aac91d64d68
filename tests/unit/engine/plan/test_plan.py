"""What a plan says of the sinks: how often each gets an event, and what a lost lock does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sluiceway as sw
from sluiceway.engine.plan.compiler import compile_graph


class Committing:
    """A sink of a user's with both halves of exactly once."""

    def write(self, events: Any) -> None: ...

    def close(self) -> None: ...

    def commit(self, n: int) -> int:
        return n

    def recover(self, token: Any) -> int:
        return int(token)


class OnlyCommitting(Committing):
    recover = None  # type: ignore[assignment]


def _lines(plan: sw.Plan) -> list[str]:
    return [line for line in str(plan).splitlines() if line.startswith("with ")]


def test_a_plan_says_what_each_sink_can_rely_on(tmp_path: Path) -> None:
    graph = sw.Graph()
    events = graph.source(range(3)).map(str, workers=2)
    events.sink(print)
    events.sink(sw.jsonl(str(tmp_path / "a.jsonl")))
    events.sink(sw.jsonl(str(tmp_path / "b.jsonl")), ordered=False, name="loose")
    events.sink(sw.sql_sink(f"sqlite:///{tmp_path}/c.db", table="t"), name="rows")
    events.sink(sw.kafka_sink("t", bootstrap_servers="127.0.0.1:1"), name="topic")
    events.sink(Committing(), name="own")
    events.sink(OnlyCommitting(), name="half")
    assert _lines(sw.compile(graph)) == [
        "with checkpoint=: exactly-once to a.jsonl, rows, own; effectively-once to topic; at-least-once to print, half, loose",
        "with lock=: checked before every commit, inside the transactions of rows; best effort for the others",
    ]


def test_without_a_sink_that_checks_the_lock_it_is_best_effort() -> None:
    graph = sw.Graph()
    graph.source(range(3)).sink(print)
    assert _lines(sw.compile(graph)) == [
        "with checkpoint=: at-least-once to print",
        "with lock=: checked before every commit, best effort",
    ]


def test_how_processes_are_joined_is_the_backends_word() -> None:
    graph = sw.Graph()
    graph.source(range(3)).map(str).sink(print)
    plan = compile_graph(graph, workers=2)
    assert "sockets" not in str(plan)
    plan.joined_by = "carried by pigeons"
    assert "\ncarried by pigeons\n" in str(plan)
    assert "sockets: one ROUTER in the caller" in str(sw.compile(graph, workers=2))
