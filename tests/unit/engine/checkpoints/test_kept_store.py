"""Kept answers in the tables of a store: what is read is what was written, what is below a checkpoint is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sluiceway.engine.checkpoints.keeper import Keeper
from sluiceway.engine.checkpoints.kept_store import KeptGroup, KeptStore, kept_store
from sluiceway.engine.checkpoints.sqlite_store import file_store
from sluiceway.engine.codec.codec import Encoder, decode
from sluiceway.nodes.errors import CheckpointError, GraphError
from sluiceway.nodes.ordering.barrier import FailureRecord
from sluiceway.nodes.ordering.kept_answers import KeptAnswer
from sluiceway.nodes.ordering.order_log import Entries, Run
from sluiceway.nodes.ordering.segments import ExitData
from store_checks import IDENTITY, saved_at

CODES = {"a": "code of a", "b": "code of b"}


def answer(lo: int, hi: int, start: int | None = None, stop: int | None = None, *letters: int) -> KeptAnswer:
    """Return the answer `[n, "n"]` for each number of a segment, of which some count."""
    first, last = lo if start is None else start, hi if stop is None else stop
    payload = Encoder().encode([part for n in range(first, last) for part in (n, str(n))])
    event = Encoder().encode([("letter", 1)])
    failures = [
        FailureRecord(n, 0, "a", 1, "dead_letter", "ValueError: no", "trace", 2, "error", (event, b""), event.nbytes)
        for n in letters
    ]
    return KeptAnswer(lo, hi, first, last - first, [ExitData(payload, payload.nbytes, [2] * (last - first))], tuple(failures))


def opened(path: Path, *, most_bytes: int = 1 << 20, n: int = 0, **words: Any) -> tuple[KeptStore, Any]:
    """Open a store; give its kept answers, and the numbers that are answered."""
    store = file_store(path)
    saved = store.open(IDENTITY, "auto")
    if saved is None:
        store.write(saved_at(0))
    kept = kept_store(store, words.pop("codes", CODES), most_bytes=most_bytes)
    known = kept.open(n, afresh=words.pop("afresh", False), by_code=words.pop("by_code", ()))
    return kept, known


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_what_was_written_is_read(path: Path) -> None:
    kept, known = opened(path)
    assert known == {"a": [], "b": []}
    kept.write([KeptGroup([("a", answer(0, 2)), ("a", answer(4, 6, 2, 8, 4)), ("b", answer(0, 1))])])
    kept.write([KeptGroup([("a", answer(2, 4, 2, 8, 3))])])
    kept._store.close()
    kept, known = opened(path)
    assert known == {"a": [(0, 2), (2, 4), (4, 6)], "b": [(0, 1)]}
    found = kept.read("a", 1, 5)
    assert [(one.lo, one.hi, one.start, one.size) for one in found] == [(1, 2, 0, 2), (2, 4, 2, 6), (4, 5, 2, 6)]
    assert found[2] == answer(4, 5, 2, 8, 4)
    assert decode(found[0].exits[0].payload) == [0, "0", 1, "1"]
    kept._store.close()


def test_the_order_log_is_written_with_them(path: Path) -> None:
    kept, _ = opened(path)
    kept.write([KeptGroup([("a", answer(0, 2))], Entries((Run(0, 1, 2),), ())), KeptGroup((), Entries((Run(2, 0, 1),), ()))])
    assert kept._store.logged() == ([Run(0, 1, 2), Run(2, 0, 1)], [])
    kept._store.close()


def test_a_row_that_is_partly_below_a_checkpoint_stays(path: Path) -> None:
    kept, _ = opened(path)
    kept.write([KeptGroup([("a", answer(0, 4)), ("a", answer(4, 8)), ("b", answer(3, 4))])])
    kept.trim(5)
    assert [one.lo for one in kept.read("a", 5, 8)] == [5]
    kept._store.close()
    kept, known = opened(path, n=5)
    assert known == {"a": [(4, 8)], "b": []}
    kept.trim(8)
    assert kept.nbytes == 0
    kept._store.close()


def test_a_new_run_forgets_them(path: Path) -> None:
    kept, _ = opened(path)
    kept.write([KeptGroup([("a", answer(0, 4))])])
    kept._store.close()
    kept, known = opened(path, afresh=True)
    assert known == {"a": [], "b": []}
    kept._store.close()


def test_answers_of_other_code(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept, _ = opened(path)
    kept.write([KeptGroup([("a", answer(0, 4)), ("b", answer(0, 4))])])
    kept._store.close()
    kept, known = opened(path, codes={"a": "new", "b": "new"}, by_code=["b"])
    assert known == {"a": [(0, 4)], "b": []}
    assert "those for 4 numbers are used as they are; durable='by_code' calls again" in caplog.text
    assert "those for 4 numbers are called for again" in caplog.text
    kept._store.close()


def test_the_bound(path: Path) -> None:
    kept, _ = opened(path, most_bytes=400)
    kept.write([KeptGroup([("a", answer(0, 1))])])
    with pytest.raises(CheckpointError, match="kept_bytes=400 is the most"):
        kept.write([KeptGroup([("a", answer(1, 2, 0, 200))])])
    kept.trim(1)
    assert not kept.is_filling
    kept.write([KeptGroup([("a", answer(1, 2))])])
    assert [one.lo for one in kept.read("a", 1, 9)] == [1]
    kept._store.close()


@pytest.mark.parametrize("harm", ["UPDATE answer SET body = x'00'", "DELETE FROM answer"])
def test_damage_is_told(path: Path, harm: str) -> None:
    kept, _ = opened(path)
    kept.write([KeptGroup([("a", answer(0, 1))])])
    with kept._store.transaction() as execute:
        execute(harm)
    with pytest.raises(CheckpointError, match=r"damaged .*its answer of node 'a' for number 0 is"):
        kept.read("a", 0, 1)
    kept._store.close()


def test_a_store_of_the_users_own_is_refused() -> None:
    with pytest.raises(GraphError, match="cannot keep the answers of node 'a', which is durable, in a store of your own"):
        kept_store(object(), CODES, most_bytes=1)  # type: ignore[arg-type]


def test_the_thread_keeps_in_order_and_says_what_failed(path: Path) -> None:
    kept, _ = opened(path, most_bytes=2000)
    told: list[Any] = []
    errors: list[BaseException] = []
    keeper = Keeper(kept, errors.append)
    for n in range(5):
        keeper.keep(KeptGroup([("a", answer(n, n + 1))]), lambda n=n: told.append(n))
    keeper.recall("a", 1, 3, lambda found: told.append([one.lo for one in found]))
    keeper.trim(2)
    keeper.keep(KeptGroup([("a", answer(7, 8, 0, 4000))]), lambda: told.append("never"))
    keeper.start()
    keeper.close()
    assert told == [0, 1, 2, 3, 4, [1, 2]]
    assert "kept_bytes=2000" in str(errors[0])
    assert [one.lo for one in kept.read("a", 2, 5)] == [2, 3, 4]
    kept._store.close()
