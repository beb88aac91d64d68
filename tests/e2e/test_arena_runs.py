"""Runs whose events go through shared memory: the same events as ever, and nothing of it stays taken or left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from large_blocks import MIB, block_of, flip
from sluiceway.engine.local.transport.arena import Arena

np = pytest.importorskip("numpy")

pytestmark = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no shared memory here")


class Arenas(list[Arena]):
    """The arenas of the runs of a test; `placed` counts the payloads that went there, `granted` the tasks with room."""

    placed = 0
    granted = 0

    def all_is_free(self) -> bool:
        """Whether every place of every arena was given back."""
        return all(len(arena.free_ranges) == 1 and arena.free_ranges[0][0] == 0 for arena in self)


@pytest.fixture
def arenas(monkeypatch: pytest.MonkeyPatch) -> Iterator[Arenas]:
    """Watch the arenas of all runs; none may leave its file or keep a place."""
    made = Arenas()

    class Watched(Arena):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

        def share(self, payload: Any) -> Any:
            placed = super().share(payload)
            made.placed += placed is not payload
            return placed

        def region(self, slot: Any) -> Any:
            made.granted += 1
            return super().region(slot)

    monkeypatch.setattr("sluiceway.engine.local.backend.Arena", Watched)
    yield made
    assert made
    assert made.all_is_free()
    assert not [arena for arena in made if arena.path is not None and arena.path.exists()]


# -- what arrives -----------------------------------------------------------------------------------------------


def test_large_bytes_through_one_pool(arenas: Arenas) -> None:
    blocks = [block_of(n) + bytes([1]) for n in range(60)]
    assert list(sw.imap(flip, blocks, workers=2)) == [flip(block) for block in blocks]
    assert arenas.placed > 0
    assert arenas.granted > 0


def test_a_consumer_that_keeps_all_arrays_has_its_own(arenas: Arenas) -> None:
    arrays = [np.full(MIB // 8, n) for n in range(100)]
    kept = list(sw.imap(lambda a: a + 1, arrays, workers=2, window_bytes=8 * MIB))
    assert all(array.flags.writeable and (array == n + 1).all() for n, array in enumerate(kept))
    kept[0][:] = -1
    assert (kept[1] == 2).all()
    assert arenas.granted > 0


def test_events_of_all_sizes_and_types(arenas: Arenas) -> None:
    sizes = [0, 1, 100, 16 * 1024, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 300_000, MIB, 5 * MIB]
    events: list[Any] = []
    for n in range(120):
        size = sizes[n * 7 % len(sizes)]
        block = block_of(n, size)
        kinds = [block, bytearray(block), "é" * (size // 2), np.frombuffer(block, np.uint8), {"n": n, "b": block}]
        events.append(kinds[n % 5])
    results = list(sw.imap(lambda event: (type(event).__name__, event), events, workers=2))
    for given, (kind, event) in zip(events, results, strict=True):
        assert kind == type(event).__name__ == type(given).__name__
        assert np.array_equal(event, given) if isinstance(given, np.ndarray) else event == given


@pytest.mark.parametrize("window_bytes", [64 * MIB, 3 * MIB])
def test_two_pools_a_filter_and_a_branch(both: Any, arenas: Arenas, window_bytes: int) -> None:
    def build(seen: Any) -> sw.Graph:
        graph = sw.Graph("blocks")
        first = graph.source([block_of(n, 400_000) for n in range(80)]).map(flip, workers=2, name="flip")
        first.filter(lambda block: block[0] % 3 != 0, workers=1, name="some").sink(seen.sink("some"))
        first.flat_map(lambda block: [block[:200_000], block[:7]], workers=2, name="parts").sink(seen.sink("parts"))
        return graph

    both(build, window_bytes=window_bytes)
    assert arenas.placed > 0


def test_a_window_smaller_than_an_event(arenas: Arenas) -> None:
    blocks = [block_of(n, 3 * MIB) for n in range(12)]
    assert list(sw.imap(flip, blocks, workers=2, window_bytes=MIB)) == blocks


def test_async_handlers_answer_in_pieces(arenas: Arenas) -> None:
    async def later(block: bytes) -> bytes:
        await asyncio.sleep(block[0] % 5 / 1000)
        return block

    blocks = [block_of(n, 200_000) for n in range(150)]
    assert list(sw.imap(later, blocks, workers=2)) == blocks
    assert arenas.granted > 0


def test_a_source_in_a_process_of_its_own(arenas: Arenas) -> None:
    def read() -> Iterator[bytes]:
        for n in range(40):
            yield block_of(n)

    graph = sw.Graph()
    stream = graph.source(read).map(flip, workers=2).map(flip, workers=1, name="again")
    assert list(sw.iterate(stream)) == [block_of(n) for n in range(40)]
    assert arenas.granted > 0


# -- when things break ------------------------------------------------------------------------------------------


def test_retries_get_the_event_as_it_was(arenas: Arenas, tmp_path: Path) -> None:
    def spoil(array: Any) -> Any:
        mark = tmp_path / str(array[1])
        array[0] += 1
        if not mark.exists():
            mark.touch()
            raise ValueError("the first time")
        return array

    arrays = [np.full(200_000, n) for n in range(20)]
    for n, array in enumerate(sw.imap(spoil, arrays, workers=2, retries=1)):
        assert (array[0], array[1]) == (n + 1, n)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_workers_leak_nothing(arenas: Arenas, tmp_path: Path, moment: str) -> None:
    def work(block: bytes) -> bytes:
        mark = tmp_path / str(block[0])
        dies = block[0] in (30, 55, 56) and not mark.exists()
        if dies and moment == "before":
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        flipped = flip(block)
        if dies:
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return flipped

    blocks = [block_of(n) for n in range(80)]
    results = sw.imap(work, blocks, workers=2)
    assert list(results) == blocks
    assert results.report.worker_deaths == 3
    assert arenas.granted > 0


def test_leaving_early_leaves_nothing(arenas: Arenas) -> None:
    with sw.imap(flip, (block_of(n) for n in range(10_000)), workers=2) as results:
        for _, block in zip(range(20), results, strict=False):
            assert len(block) == MIB
    del results, block


def test_the_event_of_an_error_is_a_copy(arenas: Arenas) -> None:
    def fail(block: bytes) -> bytes:
        if block[0] == 30:
            raise ValueError("no")
        return block

    results = sw.imap(fail, [block_of(n) for n in range(60)], workers=2)
    with pytest.raises(sw.HandlerError) as caught:
        list(results)
    assert caught.value.event == block_of(30)
    del results, caught


def test_the_arena_of_a_killed_caller_is_removed_by_the_next_run(short_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sluiceway as sw
        for n, _ in enumerate(sw.imap(bytes, (b"x" * (1 << 20) for _ in range(1000)), workers=1)):
            if n == 20:
                print(*[name for name in os.listdir("/dev/shm") if name.startswith("sluiceway-")], flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    environment = {**os.environ, "TMPDIR": str(short_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    [folder] = [path.name for path in short_path.iterdir() if path.name.startswith("sluiceway-")]
    assert folder in done.stdout.split()  # it was there; a run of another session may have removed it since
    assert list(sw.imap(str, [1], workers=1)) == ["1"]
    assert not (Path("/dev/shm") / folder).exists()
