"""A report as a notebook shows it."""

from __future__ import annotations

from xml.etree import ElementTree

import sluiceway as sw


def test_a_report_is_a_table_with_its_failure_and_no_markup_of_the_users() -> None:
    graph = sw.Graph("<g>")
    graph.source(range(9)).map(str, name="<b>text").sink(lambda event: None)
    report = sw.run(graph, runner="inline")
    report.error = sw.ErrorReport("HandlerError", "no <i>way</i>")
    root = ElementTree.fromstring(report._repr_html_().replace("<br>", "<br/>"))
    cells = ["".join(cell.itertext()) for cell in root.iter("td")]
    assert cells[:3] == ["<b>text", "1", "9"]
    told = "".join(root.find("p").itertext())  # type: ignore[union-attr]
    assert "<g>: 9 events in, 9 out" in told
    assert "HandlerError: no <i>way</i>" in told


def test_a_report_without_nodes_has_no_table() -> None:
    assert "<table" not in sw.RunReport("g")._repr_html_()
