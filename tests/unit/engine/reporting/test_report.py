"""How reports and plans read: in full for people, in one line inside other texts."""

from __future__ import annotations

import sluiceway as sw


class Printer:
    def __init__(self) -> None:
        self.shown = ""

    def text(self, text: str) -> None:
        self.shown += text


def small_graph() -> sw.Graph:
    graph = sw.Graph("logins")
    graph.source(range(1000)).map(abs, name="a_name_that_is_longer_than_twenty_characters_and_than_forty").sink(lambda n: None)
    return graph


def test_a_report_is_one_line_inside_other_texts_and_whole_in_a_notebook() -> None:
    report = sw.run(small_graph(), runner="inline")
    assert repr(report) == "<RunReport of 'logins': ended by source, 1,000 events in, 1,000 out>"
    printer = Printer()
    report._repr_pretty_(printer, False)
    assert printer.shown == str(report)
    assert repr(sw.RunReport(graph="g")) == "<RunReport of 'g': running, 0 events in, 0 out>"


def test_a_plan_does_not_show_the_data_of_its_source() -> None:
    plan = sw.compile(small_graph(), workers=2)
    assert repr(plan) == "<Plan of 'logins': 2 processes beside the caller>"
    printer = Printer()
    plan._repr_pretty_(printer, False)
    assert printer.shown == str(plan)


def test_a_plan_says_where_a_time_limit_holds() -> None:
    async def later(n: int) -> int:
        return n

    graph = sw.Graph()
    graph.source([1]).map(abs, timeout_s=1).map(later, timeout_s=1).sink(print)
    assert "timeout_s of abs: kept in processes; runner='inline' waits for plain calls" in str(sw.compile(graph)).splitlines()


def test_a_name_that_is_cut_shows_it() -> None:
    lines = str(sw.run(small_graph(), runner="inline")).splitlines()
    assert "  a_name_that_is_longer_than_twenty_chara…       1 " in lines[-1]
    assert lines[-2].index("workers") == lines[-1].index("1 ") - 6
