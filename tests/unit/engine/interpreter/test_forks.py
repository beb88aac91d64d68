"""How an object tells the process that made it from a fork."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
from sluiceway.engine.interpreter.forks import OwnerProcess, call_in_forks

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork has no forks to tell"),
    # From 3.12 on a fork of a process with threads warns; the forks here end at once.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def exit_code_in_fork(check: Callable[[], int]) -> int:
    """Return what `check` returns in a fork of this process; 99 if it raises there."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = check()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_owner_is_not_a_fork_and_goes_on() -> None:
    owner = OwnerProcess()
    owner.end_if_forked()
    assert not owner.is_forked()
    assert owner.pid == os.getpid()


def test_a_fork_is_told_and_ended() -> None:
    owner = OwnerProcess()

    def check() -> int:
        if not owner.is_forked():
            return 1
        owner.end_if_forked()
        return 2

    assert exit_code_in_fork(check) == 0


def test_an_object_made_in_a_fork_belongs_to_it() -> None:
    assert exit_code_in_fork(lambda: int(OwnerProcess().is_forked())) == 0


def test_what_is_registered_is_called_in_forks_alone() -> None:
    called: list[int] = []
    call_in_forks(lambda: called.append(1))
    assert exit_code_in_fork(lambda: 10 + len(called)) == 11
    assert called == []
