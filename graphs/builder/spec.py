"""The plain description of a graph that the builder writes and the compiler reads: nodes and kinds.

It decides nothing; checks are in `checks`, building in `building`, meaning in the executors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Struct, field

from ...nodes.handlers import Recipe
from ...nodes.program.kinds import NodeKind
from ...nodes.program.options import Options
from ...nodes.state.sessions import SessionRecipe
from ...nodes.state.times import TimeScale
from ...nodes.state.watermark import ClockRecipe
from ...nodes.state.window_state import Aggregate, WindowRecipe
from ...nodes.state.windows import AnyWindow, Grid, Session, scale_of


class Node(Struct, eq=False):
    """One node. `subject` is the user's part: a source, a handler or a sink.

    `journal` is for sources only, `ordered` for sinks, `key` and `order` for sequences, `spec` for nodes that the
    compiler made of others. `named` says that the user chose the name, `claimed` that a run has begun to read a source
    that can be read only once.
    """

    id: int
    kind: NodeKind
    name: str
    inputs: tuple[Node, ...]
    subject: Any = None
    options: Options = field(default_factory=Options)
    journal: bool = False
    ordered: bool = True
    order: str = "arrival"
    key: Any = None
    spec: Any = None
    named: bool = False
    claimed: bool = False


class GraphSpec:
    """A graph as the checks and the compiler see it: its name, and its nodes in the order in which they were added.

    A node's id is its index in `nodes`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Node] = []


@dataclass(frozen=True)
class Windowing:
    """The subject of a window's node: the windows, the times, and what is made of a window's events."""

    window: AnyWindow
    time: Callable[[Any], Any]
    lateness: Any
    aggregate: Aggregate
    __name__ = "window"

    @property
    def form(self) -> str:
        """What must be unchanged for the open windows of an earlier run to mean the same."""
        return f"{self.window}, lateness {self.lateness}, {self.aggregate.form}"

    @property
    def scale(self) -> TimeScale:
        """How times are counted."""
        return scale_of(self.window, self.lateness)

    @property
    def clock(self) -> ClockRecipe:
        """When the watermark is sent to the parts: where a window of one size ends, or whenever it moves."""
        return ClockRecipe(None if isinstance(self.window, Session) else Grid.of(self.window, self.lateness))

    @property
    def recipe(self) -> Recipe:
        """The state of each part."""
        if isinstance(self.window, Session):
            return SessionRecipe(self.scale, self.window.gap, self.lateness, self.aggregate)
        return WindowRecipe(self.scale, Grid.of(self.window, self.lateness), self.aggregate)
