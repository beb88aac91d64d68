"""Logs, warnings and prints of workers arrive in the calling process, with the node and number that made them."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw


def run_with(handler: Any, events: Any = (0, 1, 2), **options: Any) -> None:
    graph = sw.Graph()
    graph.source(events).map(handler, name="worker").sink(lambda event: None)
    sw.run(graph, workers=1, **options)


def test_records_carry_node_and_number(caplog: pytest.LogCaptureFixture) -> None:
    def tell(n: int) -> int:
        logging.getLogger("mine.deep").warning("seen %d of %s", n, "many")
        return n

    run_with(tell)
    records = [record for record in caplog.records if record.name == "mine.deep"]
    assert [record.getMessage() for record in records] == [f"seen {n} of many" for n in range(3)]
    assert [record.sluiceway_seq for record in records] == [0, 1, 2]  # type: ignore[attr-defined]
    assert {record.sluiceway_node for record in records} == {"worker"}  # type: ignore[attr-defined]
    assert records[0].levelno == logging.WARNING
    assert records[0].funcName == "tell"


def test_async_handlers_too(caplog: pytest.LogCaptureFixture) -> None:
    async def tell(n: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        logging.getLogger("mine").warning("seen %d", n)
        return n

    run_with(tell, range(20))
    told = [(record.sluiceway_seq, record.getMessage()) for record in caplog.records]  # type: ignore[attr-defined]
    assert sorted(told) == [(n, f"seen {n}") for n in range(20)]


def test_the_callers_levels_hold(caplog: pytest.LogCaptureFixture) -> None:
    def tell(n: int) -> int:
        logging.getLogger("loud").debug("loud %d", n)
        logging.getLogger("quiet").error("quiet %d", n)
        return n

    caplog.set_level(logging.DEBUG, "loud")
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.CRITICAL)
    try:
        run_with(tell, [7])
    finally:
        quiet.setLevel(logging.NOTSET)
    assert [record.getMessage() for record in caplog.records if record.name in ("loud", "quiet")] == ["loud 7"]


def test_exceptions_and_unprintable_arguments(caplog: pytest.LogCaptureFixture) -> None:
    def tell(n: int) -> int:
        try:
            1 / n
        except ZeroDivisionError:
            logging.getLogger("mine").exception("with %r", object())
        return n

    run_with(tell, [0])
    assert "ZeroDivisionError" in caplog.records[-1].exc_text  # type: ignore[operator]
    assert "with <object object" in caplog.records[-1].getMessage()


def test_warnings_arrive_as_records(caplog: pytest.LogCaptureFixture) -> None:
    def warn(n: int) -> int:
        warnings.simplefilter("always")
        warnings.warn("getting old", UserWarning, stacklevel=1)
        return n

    run_with(warn, [1])
    (record,) = [record for record in caplog.records if record.name == "py.warnings"]
    assert "UserWarning: getting old" in record.getMessage()


def test_prints_arrive_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    def tell(n: int) -> int:
        print("line", n)
        print("no end", n, end=" ")
        print("error", n, file=sys.stderr)
        return n

    run_with(tell, [1, 2])
    out, err = capsys.readouterr()
    assert out.splitlines() == ["line 1", "no end 1 line 2", "no end 2 "]
    assert err == "error 1\nerror 2\n"


def test_a_source_process_prints_and_logs_too(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def numbers() -> Iterator[int]:
        print("reading")
        logging.getLogger("mine").warning("reading")
        yield 1

    run_with(lambda n: n, numbers)
    assert capsys.readouterr().out == "reading\n"
    assert "reading" in caplog.messages


def test_the_engine_configures_nothing() -> None:
    before = [*logging.root.handlers], logging.root.level
    run_with(lambda n: n)
    assert ([*logging.root.handlers], logging.root.level) == before
    assert logging.getLogger("sluiceway").handlers == []


def test_nothing_is_said_without_need() -> None:
    script = "import sluiceway as sw; print(sum(sw.imap(abs, range(-99, 100), workers=2)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("9900\n", "")


def test_prints_of_workers_reach_a_pipe() -> None:
    script = "import sluiceway as sw\nlist(sw.imap(lambda n: print('at', n, flush=True), range(3), workers=1))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("at 0\nat 1\nat 2\n", "")


def test_inline_needs_no_way() -> None:
    told: list[str] = []
    logger = logging.getLogger("mine.inline")
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        run_with(lambda n: logger.warning("seen %d", n), runner="inline")
    finally:
        logger.removeHandler(handler)
    assert told == ["seen 0", "seen 1", "seen 2"]


class Unpackable:
    def __reduce__(self) -> Any:
        raise RuntimeError("stays here")

    def __repr__(self) -> str:
        return "<mine>"


class OneWay(Exception):
    """An exception that cannot be built again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize("workers", [1, None])
def test_records_arrive_whole(workers: int | None, caplog: pytest.LogCaptureFixture) -> None:
    def handle(n: int) -> int:
        log = logging.getLogger("whole")
        log.warning("%s of %s", n, {"a": (1, 2)}, extra={"user": "ann", "at": Path("x")})
        log.warning("%(key)s", {"key": n})
        log.warning({"event": n}, extra={"big": 1 << 80})
        log.warning("%s", Unpackable(), extra={"own": Unpackable()})
        for error in ValueError("bad"), OneWay(1, 2):
            try:
                raise error
            except Exception:
                log.exception("failed on %d", n)
        return n

    assert list(sw.imap(handle, [7], **({} if workers is None else {"workers": workers}))) == [7]
    records = [record for record in caplog.records if record.name == "whole"]
    first, second, third, fourth, fifth, sixth = records
    assert (first.msg, first.args, first.user, first.at) == ("%s of %s", (7, {"a": (1, 2)}), "ann", Path("x"))  # type: ignore
    assert (second.msg, second.args, second.getMessage()) == ("%(key)s", {"key": 7}, "7")
    assert (third.msg, third.big, third.args) == ({"event": 7}, 1 << 80, ())  # type: ignore[attr-defined]
    assert fourth.getMessage() == "<mine>"
    assert repr(fourth.own) == "<mine>" or fourth.own == "<mine>"  # type: ignore[attr-defined]
    assert fifth.exc_info is not None
    assert repr(fifth.exc_info[1]) == "ValueError('bad')"
    assert "OneWay: 1 and 2" in logging.Formatter().format(sixth)
    assert {record.levelname for record in records} == {"WARNING", "ERROR"}
    assert all("in handle" in logging.Formatter().format(record) for record in (fifth, sixth))
    if workers is not None:
        assert {record.sluiceway_seq for record in records} == {0}  # type: ignore[attr-defined]
