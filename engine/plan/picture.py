"""A flow chart, put together from groups, boxes and arrows: as Mermaid's text, and as boxes with places.

Decides how names become labels that show what they say, that what is drawn twice appears once, and in which layer and slot a
box has its place. It knows programs, but neither the plan nor what its processes do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...nodes.program.program import Program


@dataclass(frozen=True, slots=True)
class End:
    """Where an arrow begins: a box, and what the arrow says of the events that leave it there."""

    box: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its frame's id and title ("" for none), and its place: the layer from the left, the slot from the top."""

    id: str
    name: str
    kind: str  #: `source`, `engine`, `node` or `sink`
    group: str
    title: str
    layer: int
    slot: int


@dataclass(frozen=True, slots=True)
class Arrow:
    """An arrow between two boxes, by their ids."""

    start: str
    to: str
    label: str
    dotted: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture with places: every box is right of those that it reads."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


class Picture:
    """A flow chart from left to right."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._groups: dict[str, str] = {}
        #: The group ("" for none) and the brackets of each box.
        self._boxes: dict[str, tuple[str, tuple[str, str]]] = {}
        self._names: dict[str, str] = {}
        self._arrows: dict[Arrow, None] = {}

    def add_group(self, group: str, title: str) -> None:
        """Add a frame around boxes."""
        self._groups[group] = title

    def add_box(self, box: str, name: str, *, group: str = "", shape: tuple[str, str] = ("[", "]")) -> None:
        """Add a box, unless it is there; `shape` is Mermaid's brackets."""
        self._names.setdefault(box, name)
        self._boxes.setdefault(box, (group, shape))

    def add_arrow(self, start: End, to: str, *, dotted: bool = False) -> None:
        """Add an arrow between two boxes, unless it is there or leads back to its box."""
        if start.box != to:
            self._arrows[Arrow(start.box, to, start.label, dotted)] = None

    def add_program(self, program: Program, ports: Sequence[End], group: str) -> list[End]:
        """Add the steps of a program that reads `ports`; return the ends that leave it. One node has one box."""
        ends = dict(enumerate(ports))
        for step in program.steps:
            box = f"n{step.node_id}"
            self._names.setdefault(box, step.node)
            if not step.kind.traits.hidden:
                self.add_box(box, step.node, group=group)
            elif box in self._boxes:  # what gathers the parts of a node that is drawn
                ends[step.output] = ends[step.inputs[0]]
                continue
            for slot in step.inputs:
                self.add_arrow(ends[slot], box)
            ends[step.output] = End(box)
        return [ends[slot] for slot in program.exits]

    def name_of(self, end: End) -> str:
        """Return the name of the box where an arrow begins."""
        return self._names[end.box]

    def text(self) -> str:
        """Return the chart as Mermaid reads it."""
        lines = ["---", f"title: {json.dumps(self._title, ensure_ascii=False)}", "---", "flowchart LR"]
        for group, title in self._groups.items():
            lines.append(f'  subgraph {group}["{label_of(title)}"]')
            lines += [f"    {self._box_text(box)}" for box, (home, _) in self._boxes.items() if home == group]
            lines.append("  end")
        lines += [f"  {self._box_text(box)}" for box, (home, _) in self._boxes.items() if not home]
        return "\n".join([*lines, *map(_arrow_text, self._arrows)]) + "\n"

    def _box_text(self, box: str) -> str:
        opens, closes = self._boxes[box][1]
        return f'{box}{opens}"{label_of(self._names[box])}"{closes}'

    def drawing(self) -> Drawing:
        """Return the picture with a place for each box."""
        layers = self._layers()
        places: dict[str, tuple[int, int]] = {}
        for layer in range(max(layers.values(), default=0) + 1):
            # Beside what it reads, in the middle: few arrows cross then.
            inside = [box for box in layers if layers[box] == layer]
            inside.sort(key=lambda box: self._height(box, places))
            places.update({box: (layer, slot) for slot, box in enumerate(inside)})
        boxes = [
            Box(box, self._names[box], self._kind(box), group, self._groups.get(group, ""), *places[box])
            for box, (group, _) in self._boxes.items()
        ]
        return Drawing(tuple(boxes), tuple(self._arrows))

    def _layers(self) -> dict[str, int]:
        """Return the layer of each box: one more than the last of those that it reads."""
        layers = dict.fromkeys(self._boxes, 0)
        for _ in layers:  # the longest way has fewer arrows than there are boxes
            for arrow in self._arrows:
                layers[arrow.to] = max(layers[arrow.to], layers[arrow.start] + 1)
        return layers

    def _height(self, box: str, places: Mapping[str, tuple[int, int]]) -> float:
        above = [places[arrow.start][1] for arrow in self._arrows if arrow.to == box and arrow.start in places]
        return sum(above) / len(above) if above else 0.0

    def _kind(self, box: str) -> str:
        kinds = {("([", "])"): "engine", ("[(", ")]"): "sink"}
        reads = any(arrow.to == box for arrow in self._arrows)
        return kinds.get(self._boxes[box][1], "node" if reads else "source")


def _arrow_text(arrow: Arrow) -> str:
    said = f'|"{label_of(arrow.label)}"|' if arrow.label else ""
    return f"  {arrow.start} {'-.->' if arrow.dotted else '-->'}{said} {arrow.to}"


def label_of(name: str) -> str:
    """Return a name as a label that shows it as it is: Mermaid reads labels as HTML, with its own form of entities."""
    return "".join(_ENTITIES.get(letter, letter) for letter in name)


_ENTITIES = {"#": "#35;", "&": "#amp;", "<": "#lt;", ">": "#gt;", '"': "#quot;", "`": "#96;"}
