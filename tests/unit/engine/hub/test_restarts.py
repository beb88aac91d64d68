"""What is noted of restarts, and how long the pauses before them are."""

from __future__ import annotations

from typing import Any

from sluiceway.engine.core.core import Core
from sluiceway.engine.core.effects import Spawn
from sluiceway.engine.core.pool import MAX_RESTART_S
from sluiceway.engine.core.topology import PoolWiring, Wiring
from sluiceway.engine.hub.restarts import Restart, Restarts
from sluiceway.nodes.dispatch.blame import LastSeen, Phase
from sluiceway.nodes.ordering.budget import Budget
from sluiceway.nodes.ordering.sequencer import Chunk
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.program import Step, make_program


def test_a_seat_is_empty_until_a_successor_takes_work() -> None:
    restarts = Restarts()
    restarts.record_ready("0.0.1", 1.0)  # the first in its seat replaces nobody
    restarts.record_exit("0.0.1", 2.0)
    restarts.record_exit("0.1.2", 2.5)
    restarts.record_exit("0.0.3", 3.0)
    restarts.record_ready("0.0.4", 4.0)
    assert list(restarts.made) == [Restart("0.0.1", 2.0, 4.0), Restart("0.0.3", 3.0, 4.0)]
    restarts.record_ready("0.1.5", 2.75)
    assert [restarts.quantile_s(share) for share in (0.0, 0.5, 0.99)] == [0.25, 1.0, 2.0]


def test_no_restart_takes_no_time() -> None:
    assert Restarts().quantile_s(0.5) == 0.0


class _Packing:
    def pack(self, items: list[Any]) -> tuple[Any, int]:
        return items, len(items)

    def head(self, payload: Any, count: int) -> tuple[Any, int]:
        return payload[:count], count


def test_no_pause_is_longer_than_a_second_and_what_died_in_hand_is_counted() -> None:
    step = Step(kind=NodeKind.MAP, node="work", node_id=1, inputs=(0,), output=1)
    pool = PoolWiring("work", make_program(1, 2, [step], [1]), 1, False, (0,), (1,))
    wiring = Wiring((pool,), (1,), (), (True,), "arrival")
    core = Core(wiring, _Packing(), budget=Budget(1 << 40, 1 << 20), max_deaths=None)
    core.start()
    pauses = []
    for turn in range(20):
        (spawn,) = (effect for effect in core.cycle(float(turn)) if isinstance(effect, Spawn))
        pauses.append(spawn.pause_s)
        if not turn:
            core.record_chunk(0, Chunk(1, [0], 1))
        core.record_ready(spawn.worker)
        core.cycle(turn + 0.5)
        core.record_death(spawn.worker, LastSeen(Phase.EVENT, 0, 0, 0), "was ended by SIGKILL")
    assert pauses == sorted(pauses)
    assert pauses[:3] == [0.0, 0.0, 0.05]
    assert pauses[-1] == MAX_RESTART_S < 1.0
    assert core.counts.replayed == core.counts.worker_deaths == 20
