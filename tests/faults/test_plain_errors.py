"""Errors that a person can read: bounded, about the user's mistake, and never the end of the calling process."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
import sluiceway as sw


class Leaves:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class Refuses(dict[str, int]):
    """Raises wherever its parts are looked at."""

    def __iter__(self) -> Any:
        raise RuntimeError("closed")

    items = keys = values = __iter__


@pytest.mark.parametrize("options", [{"runner": "inline"}, {"workers": 1}])
def test_a_text_without_end_is_cut(options: dict[str, Any]) -> None:
    def fail(n: int) -> int:
        raise ValueError("x" * 1_000_000)

    with pytest.raises(sw.HandlerError) as caught:
        list(sw.imap(fail, range(3), **options))
    assert len(str(caught.value)) < 3000
    assert "x... (1,000,000 characters)" in str(caught.value)
    assert len(str(caught.value.__cause__)) == 1_000_000
    letters: list[Any] = list(sw.imap(fail, [1], on_error="dead_letter", **options))
    assert len(letters[0].error) < 3000


def test_a_coroutine_is_told_to_be_awaited() -> None:
    async def later(n: int) -> int:
        return n

    with pytest.raises(sw.HandlerError, match="gave a coroutine, which nobody awaits; await it, in an `async def`"):
        list(sw.imap(lambda n: asyncio.sleep(0, n), range(3), workers=1))


def test_an_event_that_hides_its_parts_fails_alone() -> None:
    results: list[Any] = list(sw.imap(lambda n: Refuses(a=n) if n == 1 else n, range(3), workers=1, on_error="dead_letter"))
    assert (results[0], results[2]) == (0, 2)
    assert "event of type" in results[1].error
    assert "Refuses cannot be pickled (RuntimeError)" in results[1].error


def test_a_result_that_exits_where_it_is_unpickled_does_not_end_the_caller() -> None:
    with pytest.raises(sw.SluicewayError, match=r"cannot be (decoded|unpacked).*SystemExit"):
        list(sw.imap(lambda n: Leaves(), range(3), workers=1))


def test_a_position_of_many_parts_stays_in_its_attribute(tmp_path: Any) -> None:
    (tmp_path / "in.csv").write_text('a,b\n1,"x\n' + "2,y\n" * 50_000)
    with pytest.raises(sw.SourceError) as caught:
        list(sw.iterate(sw.Graph().source(sw.csv(tmp_path / "in.csv")), runner="inline"))
    assert "after 0 events: ValueError: cannot read" in str(caught.value)
    assert "in.csv" in str(caught.value.position)


def test_a_python_that_does_not_know_itself_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", None)
    with pytest.raises(sw.SluicewayError, match=r"sys.executable is empty, as in an embedded interpreter; set it"):
        list(sw.imap(str, range(3), workers=1))
    assert list(sw.imap(str, range(3), runner="inline")) == ["0", "1", "2"]
