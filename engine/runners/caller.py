"""What is handled in the calling thread: the whole graph as one program, its figures, and delivery number by number.

Shared by the inline runner and by runs that begin here. Decides nothing about reading or numbering.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...nodes.events import DeadLetter, Failure
from ...nodes.locks import Lock
from ...nodes.program.program import Answer, Tally
from ..checkpoints.checkpoints import Checkpoints
from ..delivery.delivery import Delivery
from ..plan.plan import Plan
from ..reporting import failures as inbox
from ..reporting.figures import add_tallies, is_reported, node_report
from ..reporting.report import RunReport


class Here:
    """Takes the answers of the whole program and delivers them; keeps what the report counts."""

    def __init__(self, plan: Plan, lock: Lock | None = None, checkpoints: Checkpoints | None = None) -> None:
        self.delivery = Delivery(plan, inline=True, lock=lock, checkpoints=checkpoints)
        self._plan = plan
        self._ordered = any(pool.ordered for pool in plan.pools)
        self._tallies = [Tally() for _ in plan.whole.steps]
        self._ids = {step.node: step.node_id for step in plan.whole.steps}
        self._skipped = 0
        self._dead = 0

    def settle(self, answer: Answer) -> Iterator[list[Any]]:
        """Deliver an answer; raises `HandlerError` at the lowest number that failed under `fail`."""
        for total, tally in zip(self._tallies, answer.tallies, strict=True):
            total.add(tally.as_list())
        if not answer.failures:
            yield from self.delivery.columns(answer.start, answer.start + answer.size, answer.exits, [])
            return
        failures = sorted(answer.failures, key=lambda f: (f.seq, self._ids[f.node], f.index))
        fatal = next((f for f in failures if f.on_error == "fail"), None)
        hi = fatal.seq if fatal is not None else answer.start + answer.size
        letters = []
        for failed in failures:
            if failed.on_error == "skip":
                self._skipped += 1
                if self._skipped <= 3:
                    inbox.warn_skipped(failed)
            elif failed.on_error == "dead_letter":
                letters.append(_letter(failed))
        self._dead += len(letters)
        if hi > answer.start:
            columns = [column.slice(answer.start, hi) for column in answer.exits]
            yield from self.delivery.columns(answer.start, hi, columns, letters)
        if fatal is not None:
            raise inbox.failure_error(fatal, fatal.event, fatal.cause)

    def report(self, *, read: int, wall_s: float, ended_by: str, runner: str) -> RunReport:
        """Give the report of what was handled here."""
        nodes = {
            step.node: node_report(
                step,
                tally,
                pool="calling process",
                workers=1,
                ordered=self._ordered,
                rate=tally.events_in / wall_s if wall_s else 0.0,
                wall_s=wall_s,
            )
            for step, tally in zip(self._plan.whole.steps, self._tallies, strict=True)
            if is_reported(step)
        }
        report = RunReport(
            graph=self._plan.name,
            runner=runner,
            events_in=read,
            events_out=self.delivery.events_out,
            unmatched=self.delivery.unmatched,
            skipped=self._skipped,
            dead_letters=self._dead,
            released=self.delivery.delivered - self.delivery.sinks.first,
            in_caller=read,
            wall_s=wall_s,
            ended_by=ended_by,
            nodes=nodes,
        )
        add_tallies(report, self._tallies)
        return report


def _letter(failed: Failure) -> DeadLetter:
    return DeadLetter(
        failed.seq, failed.index, failed.node, failed.event, failed.error, failed.traceback, failed.attempts
    )
