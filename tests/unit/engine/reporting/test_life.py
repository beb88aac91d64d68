"""When a run began and ended, and what ended it, in its report and in the log."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import pytest
import sluiceway as sw
from sluiceway.engine.reporting.life import RunLife


def life_of(error: BaseException, *, forked: bool = False) -> RunLife:
    life = RunLife("g")
    with pytest.raises(type(error)), life.logged(lambda: sw.RunReport(graph="g"), lambda: forked):
        raise error
    return life


def test_what_ended_a_run_is_told_as_texts() -> None:
    error = sw.HandlerError("node 'f' failed", seq=7, index=1, node="f", event="secret")
    error.__cause__ = ValueError("bad date")
    error.__cause__.add_note("remote traceback:\nTraceback in the worker\n")
    told = life_of(error).stamp(sw.RunReport()).error
    assert told == sw.ErrorReport(
        "HandlerError", "node 'f' failed", "f", 7, 1, "ValueError: bad date", "Traceback in the worker"
    )


def test_an_error_of_any_shape_can_be_told() -> None:
    class Odd(Exception):
        __notes__: ClassVar[Any] = [3, None]

        @property
        def node(self) -> str:
            raise RuntimeError("no node")

        def __str__(self) -> str:
            return "odd"

    error = sw.SluicewayError("wrapped")
    error.__cause__ = Odd()
    told = life_of(error).stamp(sw.RunReport()).error
    assert told is not None
    assert (told.node, told.number, told.cause) == (None, None, "Odd: odd")
    assert life_of(Odd()).failed


def test_an_interrupt_is_no_failure() -> None:
    life = life_of(KeyboardInterrupt())
    assert life.over
    assert not life.failed


@pytest.mark.parametrize("forked", [False, True])
def test_a_fork_does_not_tell_the_end_of_its_callers_run(caplog: pytest.LogCaptureFixture, forked: bool) -> None:
    caplog.set_level(logging.INFO, "sluiceway")
    life_of(KeyboardInterrupt(), forked=forked)
    assert len(caplog.messages) == 2 - forked
