"""The decks of a run, seen from the calling process: asks Ray for actors, passes orders to them, hears what happens.

Decides when decks are asked for again, and when a cluster that gives no room, or takes decks away again and again, ends
the run. Which worker is on which deck is decided by the fleet; sources run in a station of this machine.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...nodes.errors import describe
from ..local.station import Exited, Started, StationEvent
from ..local.transport.launch import ChildSettings
from .deck import Deck, DeckFacts, KillOrder, Order, SpawnOrder, StackOrder
from .demand import DeckPlan, Demand, plan_decks
from .fleet import Fleet
from .session import ClusterSession

_LOG = logging.getLogger("sluiceway")
#: How long to wait for what an actor answers at the end, beyond the grace of its workers, in seconds.
_END_S = 10.0


@dataclass(slots=True)
class _Handle:
    """One deck as the calling process knows it."""

    actor: Any
    plan: DeckPlan
    asked_at: float
    where: str = ""  #: the node, once it is up
    orders: list[Order] = field(default_factory=list)  #: not sent yet
    alive: dict[str, int] = field(default_factory=dict)


class Decks:
    """The decks of one run. Used by the hub's thread; `notify` is called from threads of Ray."""

    def __init__(
        self,
        session: ClusterSession,
        demand: Demand,
        packed: bytes,
        *,
        options: dict[str, Any],
        most: int | None,
        notify: Callable[[], None],
    ) -> None:
        self._session = session
        self._ray = session.ray
        self._demand = demand
        self._packed = self._ray.put(packed)
        self._options = options
        self._most = most
        self._notify = notify
        self.fleet = Fleet(demand)
        self._handles: dict[str, _Handle] = {}
        self._made = 0
        #: What Ray has answered: the deck, what was asked, the answer or error. Filled by threads of Ray.
        self._answers: deque[tuple[str, str, Future[Any]]] = deque()

    # -- decks --------------------------------------------------------------------------------------------------

    def ask(self, profile: int, berths: int, now: float) -> None:
        """Ask Ray for decks with a number of berths."""
        wanted = self._demand.profiles[profile]
        for plan in plan_decks(profile, wanted, berths, self._session.nodes(), self._most):
            self._made += 1
            name = f"deck{self._made}"
            self.fleet.add(name, profile, plan.berths)
            actor = self._make_actor(plan)
            self._handles[name] = _Handle(actor, plan, now)
            self._call(name, "begin", actor.begin.remote())

    def _make_actor(self, plan: DeckPlan) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        profile = self._demand.profiles[plan.profile]
        resources = profile.times(plan.berths)
        placement: Any = "SPREAD" if profile.placement == "spread" else "DEFAULT"
        if plan.node is not None:
            placement = NodeAffinitySchedulingStrategy(plan.node, soft=False)
        return (
            self._ray.remote(concurrency_groups={"orders": 1, "events": 1})(Deck)
            .options(
                num_cpus=resources.pop("CPU", 0),
                num_gpus=resources.pop("GPU", 0),
                resources=resources,
                scheduling_strategy=placement,
                max_restarts=0,
                max_task_retries=0,
                **self._options,
            )
            .remote(self._packed)
        )

    def give_up(self, name: str) -> None:
        """Take back the request for a deck that is not up."""
        handle = self._handles.pop(name)
        self.fleet.remove(name)
        self._ray.kill(handle.actor)

    def pending(self) -> dict[str, tuple[DeckPlan, float]]:
        """Return the decks that are asked for and not up, with the time of asking."""
        return {name: (handle.plan, handle.asked_at) for name, handle in self._handles.items() if not handle.where}

    # -- orders -------------------------------------------------------------------------------------------------

    def give(self, worker: str, order: Order) -> None:
        """Add an order for the deck of a worker; `send` sends it."""
        name = self.fleet.deck_of(worker)
        if name is not None:
            self._handles[name].orders.append(order)

    def send(self) -> None:
        """Send the orders that were added, those of each deck in one call."""
        for name, handle in self._handles.items():
            if handle.orders:
                sent, handle.orders = handle.orders, []
                call = handle.actor.obey.options(concurrency_group="orders").remote(sent)
                self._call(name, "obey", call)

    def kill(self, child: str) -> None:
        """Kill a worker."""
        self.give(child, KillOrder(child))

    def ask_stack(self, worker: str) -> None:
        """Ask a worker for its stack."""
        self.give(worker, StackOrder(worker))

    def spawn(self, child: str, deck: str, berth: int, spec: str, settings: ChildSettings) -> None:
        """Start a worker on a berth of a deck."""
        handle = self._handles[deck]
        gpus = self._demand.profiles[handle.plan.profile].gpus
        handle.orders.append(SpawnOrder(child, spec, settings, berth, gpus))

    def where(self, worker: str) -> str:
        """Return the node of a worker, an empty text if it has none."""
        name = self.fleet.deck_of(worker)
        return "" if name is None else self._handles[name].where

    @property
    def alive(self) -> dict[str, int]:
        """The pids of the workers that run, by name."""
        return {worker: pid for handle in self._handles.values() for worker, pid in handle.alive.items()}

    # -- what happens -------------------------------------------------------------------------------------------

    def _call(self, name: str, what: str, call: Any) -> None:
        call.future().add_done_callback(partial(self._answered, name, what))

    def _answered(self, name: str, what: str, future: Future[Any]) -> None:
        self._answers.append((name, what, future))
        self._notify()

    def events(self) -> tuple[list[StationEvent], list[str], str]:
        """Return what happened on decks, which decks died (a text for each), and an error that ends the run, if any."""
        found: list[StationEvent] = []
        died: list[str] = []
        while self._answers:
            name, what, future = self._answers.popleft()
            handle = self._handles.get(name)
            if handle is None:
                continue  # it is gone already
            error = future.exception()
            if error is not None:
                # What the deck itself raises ends the run; all else is the end of the deck.
                if isinstance(error, self._ray.exceptions.RayTaskError | self._ray.exceptions.RuntimeEnvSetupError):
                    return found, died, f"a deck cannot start workers: {describe(getattr(error, 'cause', None) or error)}"
                gone = self._lose(name, error)
                found += gone
                died.append(gone[0].cause if gone else f"a deck on {handle.where or 'its way'} died")
            elif what == "begin":
                self._record_up(name, handle, future.result())
            elif what == "events":
                found += self._record(handle, future.result())
                self._listen(name, handle)
        return found, died, ""

    def _record_up(self, name: str, handle: _Handle, facts: DeckFacts) -> None:
        # Simulated nodes, and containers, may share a host's name.
        handle.where = f"node {facts.host}/{facts.node[:6]}"
        self.fleet.record_up(name, facts.node)
        self._listen(name, handle)

    def _listen(self, name: str, handle: _Handle) -> None:
        self._call(name, "events", handle.actor.next_events.options(concurrency_group="events").remote())

    def _record(self, handle: _Handle, events: Sequence[StationEvent]) -> list[StationEvent]:
        for event in events:
            if isinstance(event, Started):
                handle.alive[event.child] = event.pid
            elif isinstance(event, Exited):
                handle.alive.pop(event.child, None)
                self.fleet.leave(event.child)
        return list(events)

    def _lose(self, name: str, error: BaseException) -> list[Exited]:
        handle = self._handles.pop(name)
        self._ray.kill(handle.actor)  # where only the way to it is broken
        cause = f"died with its deck on {handle.where or 'a node'} ({type(error).__name__})"
        return [Exited(worker, None, None, cause) for worker in self.fleet.remove(name)]

    # -- the end ------------------------------------------------------------------------------------------------

    def end(self, grace_s: float) -> dict[str, str]:
        """End every deck with its workers; return how each worker ended."""
        took = {worker: "killed" for handle in self._handles.values() for worker in handle.alive}
        calls = {handle.actor.end.remote(grace_s).future() for handle in self._handles.values() if handle.where}
        done, _ = wait(calls, timeout=grace_s + _END_S)
        for call in done:
            if call.exception() is None:
                took.update(call.result())
        self.close()
        return took

    def close(self) -> None:
        """Kill every deck."""
        while self._handles:
            _, handle = self._handles.popitem()
            self._ray.kill(handle.actor)
