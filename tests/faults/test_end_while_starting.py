"""A run that is over while its workers still start: they are told so, and nobody waits for them."""

from __future__ import annotations

import time

import sluiceway as sw


def test_workers_that_are_still_asked_for_are_stopped() -> None:
    """More workers than work: the first answer ends the run, and those behind it have not even been forked."""
    for _ in range(3):
        began = time.monotonic()
        results = sw.imap(abs, [-1], workers=12, close_s=30)
        assert list(results) == [1]
        assert time.monotonic() - began < 15
        assert set(results.report.children.values()) == {"stopped"}
        assert len(results.report.children) == 12
