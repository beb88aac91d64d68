"""Events about child processes, and the registry derived from them: values only, no process is touched."""

from __future__ import annotations

from msgspec import Struct, field


class ChildStarted(Struct, frozen=True):
    """A child runs; `pid` is the number of its process and of its process group."""

    child: str
    pid: int


class ChildExited(Struct, frozen=True):
    """A child has ended and was reaped, and the rest of its process group was killed.

    `code` is the exit code, or minus the number of the signal that ended it.
    """

    child: str
    pid: int
    code: int


class SpawnFailed(Struct, frozen=True):
    """The system refused to start a child (too many processes, no memory); `error` is the system's message."""

    child: str
    error: str


class ZygoteDied(Struct, frozen=True):
    """The zygote has ended, and with it `children`, which were running or requested.

    `status` is the exit code, negative for a signal. `was_ready` is false if it ended before it could start a child;
    `reason` is the text for an error, in that case with what the zygote wrote to standard error.
    """

    status: int
    children: tuple[str, ...]
    was_ready: bool
    reason: str


Event = ChildStarted | ChildExited | SpawnFailed | ZygoteDied


class ChildRegistry(Struct):
    """The children of a nursery: those requested, and the pids of those alive."""

    requested: dict[str, None] = field(default_factory=dict)
    alive: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every child that is not known to have ended."""
        return (*self.alive, *self.requested)

    def apply(self, event: Event) -> None:
        """Update the registry with an event."""
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
