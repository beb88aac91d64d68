"""A Mermaid flow chart, put together from groups, boxes and arrows.

Decides how names become labels that show what they say, and that what is drawn twice appears once. It knows programs, but
neither the plan nor what its processes do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ...nodes.program.program import Program


@dataclass(frozen=True, slots=True)
class End:
    """Where an arrow begins: a box, and what the arrow says of the events that leave it there."""

    box: str
    label: str = ""


class Picture:
    """A flow chart from left to right."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._groups: dict[str, str] = {}
        self._boxes: dict[str, tuple[str, str]] = {}  #: the group ("" for none) and the text of each box
        self._names: dict[str, str] = {}
        self._arrows: dict[str, None] = {}

    def add_group(self, group: str, title: str) -> None:
        """Add a frame around boxes."""
        self._groups[group] = title

    def add_box(self, box: str, name: str, *, group: str = "", shape: tuple[str, str] = ("[", "]")) -> None:
        """Add a box, unless it is there; `shape` is Mermaid's brackets."""
        self._names.setdefault(box, name)
        self._boxes.setdefault(box, (group, f'{box}{shape[0]}"{label_of(name)}"{shape[1]}'))

    def add_arrow(self, start: End, to: str, *, dotted: bool = False) -> None:
        """Add an arrow between two boxes, unless it is there or leads back to its box."""
        if start.box != to:
            line = "-.->" if dotted else "-->"
            said = f'|"{label_of(start.label)}"|' if start.label else ""
            self._arrows[f"  {start.box} {line}{said} {to}"] = None

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
            lines += [f"    {text}" for home, text in self._boxes.values() if home == group]
            lines.append("  end")
        lines += [f"  {text}" for home, text in self._boxes.values() if not home]
        return "\n".join([*lines, *self._arrows]) + "\n"


def label_of(name: str) -> str:
    """Return a name as a label that shows it as it is: Mermaid reads labels as HTML, with its own form of entities."""
    return "".join(_ENTITIES.get(letter, letter) for letter in name)


_ENTITIES = {"#": "#35;", "&": "#amp;", "<": "#lt;", ">": "#gt;", '"': "#quot;", "`": "#96;"}
