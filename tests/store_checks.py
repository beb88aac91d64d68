"""What every store of checkpoints must do, whatever it is kept in; each check gets a store that is not open."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sluiceway.engine.checkpoints import store as stores
from sluiceway.engine.checkpoints.store import Saved, TableStore, describe_run
from sluiceway.nodes.ordering.order_log import Read, Run

IDENTITY: dict[str, Any] = {"graph": "g", "runner": "inline", "nodes": [["a", "source", []]], "states": []}


def saved_at(n: int, starts: tuple[int, ...] = (), **words: Any) -> Saved:
    """Return a checkpoint of one source and one sink."""
    return Saved(n, ((("position", n), 0, None),), 0, {"pool": b"\x00\xff"}, {"sink": n}, starts=starts, **words)


def the_last_checkpoint_is_given(store: TableStore) -> None:
    assert store.open(IDENTITY, "auto") is None
    store.write(saved_at(3))
    store.write(saved_at(5, finished=True))
    store.close()
    assert store.open(IDENTITY, "required") == saved_at(5, finished=True)


def the_order_log_is_given_in_the_order_it_was_written(store: TableStore) -> None:
    runs = [Run(0, 0, 4), Run(4, 1, 2), Run(6, 0, 1)]
    reads = [Read(1, 0, 2, {"a": b"x"}), Read(0, 0, 5, None), Read(1, 2, 7, ("key", 3))]
    store.open(IDENTITY, "auto")
    store.log(runs[:2], reads[:1])
    store.log([], reads[1:])
    store.log([], [])
    store.log(runs[2:], [])
    assert store.logged() == (runs, reads)
    store.write(saved_at(0))
    store.close()
    assert store.open(IDENTITY, "auto") == saved_at(0)
    assert store.logged() == (runs, reads)


def a_checkpoint_lets_go_of_what_is_wholly_behind_it(store: TableStore) -> None:
    runs = [Run(0, 0, 4), Run(4, 1, 2), Run(6, 0, 1)]
    reads = [Read(0, 0, 5, "a"), Read(1, 0, 2, "b"), Read(1, 2, 7, "c"), Read(2, 0, 1, "d")]
    store.open(IDENTITY, "auto")
    store.log(runs, reads)
    store.write(saved_at(5))
    assert store.logged() == (runs[1:], reads)
    store.write(saved_at(6, starts=(4, 2)))
    assert store.logged() == (runs[2:], [reads[0], *reads[2:]])
    store.write(saved_at(7, starts=(5, 9)))
    assert store.logged() == ([], [reads[3]])


def what_is_announced_stays_until_a_checkpoint_covers_it(store: TableStore) -> None:
    store.open(IDENTITY, "auto")
    assert store.announced() == -1
    for n in (4, 9, 7):
        store.announce(n)
    store.write(saved_at(9))  # everything below 9: the sinks may hold 9
    assert (store.announced(), store.logged()) == (9, ([], []))
    store.write(saved_at(10))
    assert store.announced() == -1


def beginning_anew_forgets_everything(store: TableStore) -> None:
    store.open(IDENTITY, "auto")
    store.log([Run(0, 0, 4)], [Read(0, 0, 4, None)])
    store.write(saved_at(2))
    store.close()
    assert store.open(IDENTITY, "never") is None
    assert store.logged() == ([], [])
    store.close()
    assert store.open(IDENTITY, "auto") is None


def so_many_checkpoints_are_remembered(store: TableStore) -> None:
    store.open(IDENTITY, "auto")
    for n in range(stores.HISTORY + 20):
        store.write(saved_at(n))
    with store._backing.transaction() as execute:
        rows = execute("SELECT n FROM {t}history ORDER BY id")
    assert [n for (n,) in rows] == list(range(20, stores.HISTORY + 20))


def _with_code(python: str = "3", **nodes: str) -> dict[str, Any]:
    return {**IDENTITY, "code": {"python": python, "nodes": nodes}}


def other_code_is_allowed_and_remembered(store: TableStore) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("sluiceway")
    logger.addHandler(handler)
    try:
        store.open(_with_code(a="1", b="1", c="1"), "auto")
        for n in (4, 6, 8, 10):
            store.write(saved_at(n, finished=n == 10))
            store.close()
            code = {4: _with_code(a="2", b="1", d="1"), 6: _with_code(a="2", b="1", d="1"), 8: _with_code("4", a="9")}
            store.open(code.get(n, _with_code("5", a="9")), "required")
    finally:
        logger.removeHandler(handler)
    a, d, c = (f"node {name!r} changed its code" for name in "adc")
    python = "Python changed from 3 to 4, so that code cannot be compared,"
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("WARNING", f"'g' goes on at number 4: {a}; {d}; {c}"),
        ("WARNING", f"'g' goes on at number 8: {python}"),
    ]
    for n in range(11, 11 + stores.HISTORY):
        store.write(saved_at(n))
    with store._backing.transaction() as execute:
        shown = describe_run("here", store._own()["name"], execute).splitlines()
    notes = [line.rpartition(",")[0] for line in shown if "changed" in line]
    assert notes == [f"{python} at number 8", f"{c} at number 4", f"{d} at number 4", f"{a} at number 4"]


CHECKS: list[Callable[[TableStore], None]] = [
    the_last_checkpoint_is_given,
    the_order_log_is_given_in_the_order_it_was_written,
    a_checkpoint_lets_go_of_what_is_wholly_behind_it,
    what_is_announced_stays_until_a_checkpoint_covers_it,
    beginning_anew_forgets_everything,
    so_many_checkpoints_are_remembered,
    other_code_is_allowed_and_remembered,
]
