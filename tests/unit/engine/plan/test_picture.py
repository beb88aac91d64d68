"""The picture of a plan: every node and sink once, what reads what, and names as they are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
import sluiceway as sw
from sluiceway.engine.plan.picture import End, Picture, label_of


def boxes_and_arrows(chart: str) -> tuple[dict[str, str], set[tuple[str, str, str]]]:
    """Return the frame of each box by its label ("" for none), and the arrows as (from, label, to) in labels."""
    frames: dict[str, str] = {}
    labels: dict[str, str] = {}
    frame = ""
    arrows = set()
    for line in chart.splitlines():
        if group := re.fullmatch(r'  subgraph \w+\["(.*)"\]', line):
            frame = group[1]
        elif line == "  end":
            frame = ""
        elif arrow := re.fullmatch(r'  (\w+) (?:-->|-\.->)(?:\|"(.*?)"\|)? (\w+)', line):
            arrows.add((labels[arrow[1]], arrow[2] or "", labels[arrow[3]]))
        elif box := re.fullmatch(r'  +(\w+)[\[(]+"(.*)"[\])]+', line):
            labels[box[1]] = box[2]
            assert box[2] not in frames
            frames[box[2]] = frame
    return frames, arrows


def test_the_picture_shows_the_graph_and_where_it_runs() -> None:
    graph = sw.Graph("readings")
    parsed = graph.source(sw.every(1)).map(str, name="parse", on_error="dead_letter")
    left = parsed.map(len, name="left")
    right = parsed.filter(len, name="right", workers=1)
    sw.zip(left, right).sink(print, name="pairs")
    left.sink(print, name="lefts")
    right.sink(print, name="rights", ordered=False)
    right.key_by(len, name="size").count(name="counted").sink(print, name="counts")
    graph.dead_letters().map(len, name="texts").sink(print, name="rejected")
    chart = sw.compile(graph, workers=3).mermaid()
    assert chart.startswith('---\ntitle: "readings"\n---\nflowchart LR\n')
    frames, arrows = boxes_and_arrows(chart)
    caller = "calling process"
    assert frames == {
        "sequencer": caller, "barrier": caller, "every": "", "parse": "x 3", "left": "x 3", "right": "x 1", "size": "x 3",
        "counted": "x 3, by key", "zip": caller, "pairs": caller, "lefts": caller, "rights": caller, "counts": caller,
        "texts": caller, "rejected": caller,
    }  # fmt: skip
    assert arrows == {
        ("every", "", "sequencer"), ("sequencer", "", "parse"), ("parse", "", "left"), ("parse", "", "right"),
        ("right", "", "size"), ("size", "", "counted"), ("left", "", "barrier"), ("right", "", "barrier"),
        ("counted", "", "barrier"), ("barrier", "left", "zip"), ("barrier", "right", "zip"), ("zip", "", "pairs"),
        ("barrier", "left", "lefts"), ("barrier", "counted", "counts"), ("right", "", "rights"),
        ("barrier", "dead letters", "texts"), ("texts", "", "rejected"),
    }  # fmt: skip


@pytest.mark.parametrize("window", [sw.tumbling(5), sw.session(5)])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_window_is_one_box(window: object, workers: int) -> None:
    graph = sw.Graph()
    keyed = graph.source([1, 2]).map(abs).key_by(abs, name="user")
    keyed.window(window, time=abs).count(name="counted").map(str, name="text").sink(print)  # type: ignore[arg-type]
    frames, arrows = boxes_and_arrows(sw.compile(graph, workers=workers).mermaid())
    assert {"abs", "user", "counted", "text", "print"} < frames.keys()
    assert ("user", "", "counted") in arrows
    assert ("counted", "", "text") in arrows


@pytest.mark.parametrize(
    ("name", "label"),
    [("<b>", "#lt;b#gt;"), ('say "hi"', "say #quot;hi#quot;"), ("a&b #1", "a#amp;b #35;1"), ("`x`", "#96;x#96;"), ("ä", "ä")],
)
def test_a_label_shows_a_name_as_it_is(name: str, label: str) -> None:
    assert label_of(name) == label


def test_what_is_drawn_twice_is_there_once() -> None:
    picture = Picture('of "it"')
    for _ in range(2):
        picture.add_box("a", "A")
        picture.add_box("b", "B")
        picture.add_arrow(End("a"), "b")
        picture.add_arrow(End("a"), "a")
    assert picture.text() == '---\ntitle: "of \\"it\\""\n---\nflowchart LR\n  a["A"]\n  b["B"]\n  a --> b\n'


def test_every_box_has_a_place_of_its_own_right_of_what_it_reads() -> None:
    graph = sw.Graph()
    left = graph.source([1], name="one").map(abs, name="left")
    right = left.map(abs, name="right")
    sw.zip(left, right).sink(print, name="pairs")
    right.sink(print, name="rights", ordered=False)
    drawing = sw.compile(graph, workers=2).picture().drawing()
    places = {box.id: (box.layer, box.slot) for box in drawing.boxes}
    assert len(set(places.values())) == len(places)
    assert all(places[arrow.start][0] < places[arrow.to][0] for arrow in drawing.arrows)
    kinds = {box.name: box.kind for box in drawing.boxes}
    assert kinds == {
        "one": "source", "sequencer": "engine", "left": "node", "right": "node", "barrier": "engine", "zip": "node",
        "pairs": "sink", "rights": "sink",
    }  # fmt: skip
    for layer in range(max(box.layer for box in drawing.boxes) + 1):
        slots = sorted(box.slot for box in drawing.boxes if box.layer == layer)
        assert slots == list(range(len(slots)))


def test_a_notebook_shows_the_plan_as_a_drawing() -> None:
    graph = sw.Graph()
    graph.source([1], name="<one> & only").map(abs, name="a name that is much too long for a box").sink(print, name="out")
    shown = sw.compile(graph, workers=3)._repr_html_()
    root = ElementTree.fromstring(shown)
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<one> & only", "sequencer", "a name that is much…", "x 3", "barrier", "out", "sink"} <= set(texts)
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) == 5
