"""What can be told of the children of a run, and the roll that follows from it: values only, no process is touched."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """A child runs; `pid` is its process and its process group."""

    child: str
    pid: int


@dataclass(frozen=True, slots=True)
class ChildExited:
    """A child has ended and is reaped, and what it left in its process group is killed.

    `code` is the exit code, or minus the number of the signal that ended it.
    """

    child: str
    pid: int
    code: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The system refused to start a child (too many processes, no memory); `error` is its word."""

    child: str
    error: str


@dataclass(frozen=True, slots=True)
class ZygoteDied:
    """Nobody starts or reaps children any more; `children` (running or asked for) are gone with it.

    `status` is the exit code, negative for a signal. `was_ready` is false where it died before it could start a
    child; `reason` is the text for an error, then with what it wrote to standard error.
    """

    status: int
    children: tuple[str, ...]
    was_ready: bool
    reason: str


Event = ChildStarted | ChildExited | SpawnFailed | ZygoteDied


@dataclass(slots=True)
class ChildRegistry:
    """The children of a nursery: those asked for, and the pids of those alive."""

    requested: dict[str, None] = field(default_factory=dict)
    alive: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every child that is not known to be gone."""
        return (*self.alive, *self.requested)

    def apply(self, event: Event) -> None:
        """Bring the roll up to an event."""
        match event:
            case ChildStarted(child, pid):
                self.requested.pop(child, None)
                self.alive[child] = pid
            case ChildExited(child):
                self.alive.pop(child, None)
            case SpawnFailed(child):
                self.requested.pop(child, None)
            case ZygoteDied():
                self.requested.clear()
                self.alive.clear()
