"""The figures of one node: measured busyness, predicted utilisation, and what is printed of them."""

from __future__ import annotations

import pytest
from sluiceway.engine.reporting.figures import Stay, node_report
from sluiceway.engine.reporting.report import NodeReport, RunReport
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.options import Options
from sluiceway.nodes.program.program import Step, Tally


def make_node(
    tally: Tally, *, workers: int = 2, rate: float = 100.0, wall_s: float = 10.0, ordered: bool = False, is_async: bool = False
) -> NodeReport:
    options = Options(concurrency=4)
    step = Step(kind=NodeKind.MAP, node="work", node_id=1, inputs=(0,), output=1, options=options, is_async=is_async)
    return node_report(
        step, tally, pool="work", workers=workers, ordered=ordered, rate=rate, wall_s=wall_s, stay=Stay(1, 1, 0.1, 0.1, 0.2)
    )


def test_busy_is_measured_and_utilisation_predicted() -> None:
    node = make_node(Tally(events_in=1000, events_out=1000, seconds=5.0), rate=4000.0)
    assert node.busy == pytest.approx(5.0 / (2 * 10.0))
    assert node.service_rate == pytest.approx(200.0)
    assert node.utilisation == pytest.approx(4000.0 / (2 * 200.0))
    assert node.predicted_throughput == pytest.approx(400.0)


def test_busy_is_a_share_also_where_clocks_differ() -> None:
    assert make_node(Tally(events_in=10, events_out=10, seconds=20.1)).busy == 1.0


@pytest.mark.parametrize(("ordered", "calls"), [(False, 4), (True, 1)])
def test_an_async_handler_has_several_calls_at_once_unless_it_is_ordered(ordered: bool, calls: int) -> None:
    node = make_node(Tally(events_in=100, events_out=100, seconds=10.0), is_async=True, ordered=ordered)
    assert node.busy == pytest.approx(10.0 / (2 * calls * 10.0))
    assert node.service_rate == pytest.approx(10.0 * calls)


def test_a_node_that_has_done_nothing() -> None:
    node = make_node(Tally(), rate=0.0, wall_s=0.0)
    assert (node.busy, node.utilisation, node.service_rate, node.throughput) == (0.0, 0.0, 0.0, 0.0)


def test_what_is_printed_of_a_node() -> None:
    node = make_node(Tally(events_in=1000, events_out=1000, seconds=5.0), rate=4000.0)
    head, line = str(RunReport(graph="g", nodes={"work": node})).splitlines()[1:]
    assert head.split() == ["node", "workers", "events", "offered/s", "per", "worker/s", "busy", "p50", "p99"]
    assert line.split() == ["work", "2", "1,000", "4,000", "200", "25%", "100.0", "ms", "200.0", "ms"]
