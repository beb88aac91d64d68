"""The arena: places never overlap, are given back by themselves, and nobody reads or writes outside of what is his."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.engine.codec.codec import Payload, decode, encode
from sluiceway.engine.local.grants import Grants
from sluiceway.engine.local.transport import messages as wire
from sluiceway.engine.local.transport.arena import Arena
from sluiceway.engine.local.transport.extents import PAGE, Extents
from sluiceway.engine.local.transport.run_dir import create_locked, remove_stale_arenas
from sluiceway.engine.local.transport.shared_frames import FRAME_BYTES, ChildArena, Region
from sluiceway.engine.tasks.task import AnswerMessage, Grant
from sluiceway.nodes.errors import ProtocolError
from sluiceway.nodes.ordering.segments import ExitData, Segment, Slice
from sluiceway.nodes.program.program import Orders

LARGE = b"large " * FRAME_BYTES
MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "arena"


@pytest.fixture
def arena(path: Path) -> Iterator[Arena]:
    made = Arena(path, 4 * MIB)
    yield made
    made.close()
    assert not path.exists()


# -- where places are taken -------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.integers(1, 40), st.tuples(st.just("give"), st.integers(0, 99)))))
def test_pieces_never_overlap_and_a_gap_that_fits_is_found(calls: list[Any]) -> None:
    size = 100
    extents, taken = Extents(size), list[tuple[int, int]]()
    for call in calls:
        if isinstance(call, int):
            used = sorted(taken)
            gaps = [b - a for a, b in zip([0, *(hi for _, hi in used)], [*(lo for lo, _ in used), size], strict=True)]
            start = extents.allocate(call)
            assert (start is not None) == (max(gaps) >= call)
            if start is not None:
                assert 0 <= start <= start + call <= size
                assert all(start + call <= lo or hi <= start for lo, hi in taken)
                taken.append((start, start + call))
        elif taken:
            extents.free(*taken.pop(call[1] % len(taken)))
        assert size - sum(hi - lo for lo, hi in extents.free_ranges()) == sum(hi - lo for lo, hi in taken)
    while taken:
        extents.free(*taken.pop())
    assert extents.free_ranges() == [(0, size)]


def test_a_piece_given_back_twice_is_noticed() -> None:
    extents = Extents(8)
    assert extents.allocate(4) == 0
    extents.free(0, 4)
    with pytest.raises(AssertionError, match="twice"):
        extents.free(0, 4)


# -- how long a place is taken ----------------------------------------------------------------------------------


def test_a_slot_is_free_again_when_its_last_reference_goes(arena: Arena) -> None:
    payload = arena.share(encode([LARGE]))
    assert payload.places[0] == -1  # the body is small
    assert payload.frames[1] == LARGE
    other = Payload(payload.codec, payload.frames, payload.slot, payload.places)
    whole = sum(stop - start for start, stop in arena.free_ranges)
    del payload
    assert sum(stop - start for start, stop in arena.free_ranges) == whole
    thread = threading.Thread(target=lambda held: held.clear(), args=([other],))
    del other
    thread.start()
    thread.join()
    del thread
    assert len(arena.free_ranges) == 1
    assert arena.free_ranges[0][0] == 0


def test_a_trimmed_slot_gives_back_its_end_once(arena: Arena) -> None:
    slot = arena.allocate(10 * PAGE)
    assert slot is not None
    slot.trim(slot.start + PAGE + 1)
    assert slot.stop - slot.start == 2 * PAGE
    slot.trim(slot.start + 8 * PAGE)
    assert slot.stop - slot.start == 2 * PAGE
    assert arena.free_ranges[0][0] == 2 * PAGE
    del slot
    assert arena.free_ranges[0][0] == 0


def test_where_there_is_no_room_frames_stay_as_they_are(arena: Arena) -> None:
    held = []
    while (slot := arena.allocate(MIB)) is not None:
        held.append(slot)
    assert len(held) == 4 + 32
    payload = encode([bytes(2 * MIB)])
    assert arena.share(payload) is payload
    del slot, held[10:12]
    assert arena.share(payload).places == (-1, 10 * MIB)
    del held[::2]
    assert arena.share(encode([bytes(4 * MIB)])).places == (), "there is room, but not in one piece"


def test_small_frames_stay_and_no_file_is_made_for_them(arena: Arena, path: Path) -> None:
    payload = encode([b"x" * (FRAME_BYTES - 1)])
    assert arena.share(payload) is payload
    assert not path.exists()


@pytest.mark.parametrize("nowhere", [None, Path("/nowhere/arena")])
def test_without_shared_memory_nothing_is_placed(nowhere: Path | None) -> None:
    arena, payload = Arena(nowhere, MIB), encode([LARGE])
    assert arena.share(payload) is payload
    assert arena.free_ranges == []
    arena.close()


def test_full_shared_memory_is_no_error(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    first = arena.share(encode([bytes(MIB)]))

    def refuse(*_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    payload = encode([bytes(2 * MIB)])
    assert arena.share(payload) is payload
    del first
    assert arena.share(encode([bytes(MIB)])).places, "what has memory behind it is used on"


def test_the_file_is_private_and_frames_outlive_it(path: Path) -> None:
    arena = Arena(path, MIB)
    payload = arena.share(encode([LARGE]))
    assert path.stat().st_mode & 0o777 == 0o600
    arena.close()
    assert not path.exists()
    assert decode(payload) == [LARGE]


def test_only_files_that_nobody_holds_are_removed(tmp_path: Path) -> None:
    held = create_locked(tmp_path / "sluiceway-held")
    os.close(create_locked(tmp_path / "sluiceway-stale"))
    (tmp_path / "sluiceway-folder").mkdir()
    (tmp_path / "other").touch()
    remove_stale_arenas(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["other", "sluiceway-folder", "sluiceway-held"]
    os.close(held)


# -- what is decoded --------------------------------------------------------------------------------------------


def test_what_is_decoded_shares_nothing_with_the_arena(arena: Arena, path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    batches = [
        [LARGE, LARGE[:-1]],
        [bytearray(LARGE)],
        ["é" * FRAME_BYTES],
        [{"text": "x" * FRAME_BYTES}],
        [{1, "y" * FRAME_BYTES}],
        [numpy.arange(FRAME_BYTES), {"a": numpy.ones(FRAME_BYTES)}],
    ]
    for batch in batches:
        payload = arena.share(encode(batch))
        assert payload.places
        assert any(place >= 0 for place in payload.places)
        events = decode(payload)
        with open(path, "r+b") as file:
            file.write(b"\xff" * 8 * FRAME_BYTES * 3)
        assert repr(events) == repr(batch)
        assert len(events) == len(batch)
        assert all(type(a) is type(b) for a, b in zip(events, batch, strict=True))
        if isinstance(events[0], numpy.ndarray):
            assert (events[0] == batch[0]).all()
            events[0][0] = 7  # it is writable
        else:
            assert events == batch


# -- what peers may refer to ------------------------------------------------------------------------------------


def test_a_region_refuses_what_lies_outside() -> None:
    region = Region(memoryview(bytearray(100)), 10, 20)
    assert len(region.frame(10, 10)) == 10
    assert region.frame(12, 0).readonly
    for offset, nbytes in [(9, 1), (10, 11), (20, 1), (-5, 20), (12, -1), (1 << 60, 1)]:
        with pytest.raises(ValueError, match="outside"):
            region.frame(offset, nbytes)


def test_a_child_fills_its_grant_and_leaves_the_rest_to_the_socket(arena: Arena, path: Path) -> None:
    slot = arena.allocate(2 * MIB)
    assert slot is not None
    child, grant = ChildArena(path), Grant(slot.start, slot.stop)
    first = child.share(encode([bytes(MIB), bytes(MIB // 2), bytes(MIB)]), grant)
    assert first.places == (-1, 0, MIB, -1)
    second = child.share(encode([bytes(MIB), LARGE[:FRAME_BYTES]]), grant)
    assert second.places == (-1, -1, MIB + MIB // 2)
    assert decode(second) == [bytes(MIB), LARGE[:FRAME_BYTES]]
    small = encode([1, 2])
    assert child.share(small, grant) is small
    assert child.share(second, None) is second
    with pytest.raises(ValueError, match="outside"):
        child.share(second, Grant(0, 1 << 40))


def _answer(payload: Payload) -> wire.Message:
    data = ExitData(payload, payload.nbytes)
    return wire.unpack(wire.pack_answer(AnswerMessage(3, 0, 1, 0.5, [], [data], [])), "0.0.1")


def test_an_answer_by_reference_arrives_and_one_outside_its_grant_is_refused(arena: Arena, path: Path) -> None:
    slot, other = arena.allocate(2 * MIB), arena.allocate(MIB)
    assert slot is not None
    assert other is not None
    payload = ChildArena(path).share(encode([LARGE]), Grant(slot.start, slot.stop))
    message = _answer(payload)
    assert sum(map(len, message.frames)) < 100
    answer = wire.unpack_answer(message, arena.region(slot), slot)
    assert answer.exits[0].payload.slot is slot
    assert answer.exits[0].nbytes == payload.nbytes
    assert decode(answer.exits[0].payload) == [LARGE]
    for region in (arena.region(other), None):
        with pytest.raises(ProtocolError, match=r"0\.0\.1"):
            wire.unpack_fields("0.0.1", message, lambda it, region=region: wire.unpack_answer(it, region, other))


def test_a_task_hands_a_placed_payload_on_without_its_bytes(arena: Arena, path: Path) -> None:
    payload = arena.share(encode([LARGE, LARGE]))
    part = Slice(Segment(4, 6, payload, payload.nbytes), 5, 6)
    parts = wire.pack_task(1, 5, 6, 0, Orders(), [[part]], (64, 128))
    assert sum(map(len, parts)) < 200
    task = wire.unpack_task(wire.unpack(parts, "hub"), ChildArena(path))
    assert decode(task.ports[0][0].payload) == [LARGE, LARGE]
    assert task.grant is not None
    assert (task.grant.at, task.grant.stop) == (64, 128)
    with pytest.raises(ValueError, match="shared memory"):
        wire.unpack_task(wire.unpack(parts, "hub"))


# -- room for answers -------------------------------------------------------------------------------------------


def _record(grants: Grants, payload: Payload, task: int, size: int, worker: str = "0.0.1") -> None:
    data = ExitData(payload, payload.nbytes)
    grants.record_answer(worker, AnswerMessage(task, 0, size, 0.1, [], [data], []))


def test_a_task_is_granted_what_answers_have_needed(arena: Arena, path: Path) -> None:
    grants = Grants(arena)
    assert grants.allocate("0.0.1", 1, 10) is None, "nothing is known yet"
    _record(grants, encode([bytes(MIB)] * 2), 1, 2)
    assert grants.allocate("1.0.1", 1, 10) is None, "another pool"
    room = grants.allocate("0.1.1", 2, 1)
    assert room is not None
    region, slot = grants.find("0.1.1", 2)
    assert region is not None
    assert grants.find("0.0.1", 2) == (None, None)
    payload = ChildArena(path).share(encode([bytes(MIB)]), Grant(*room))
    held = wire.unpack_answer(_answer(payload), region, slot).exits[0].payload
    del region, slot
    _record(grants, held, 2, 1, "0.1.1")
    assert grants.find("0.1.1", 2) == (None, None), "answered"
    assert arena.free_ranges[0][0] == MIB, "what the answer did not use is free again"
    del held
    assert arena.free_ranges[0][0] == 0


def test_a_grant_is_kept_until_its_task_is_answered_or_its_worker_is_gone(arena: Arena) -> None:
    grants, large = Grants(arena), encode([bytes(MIB)])
    _record(grants, large, 1, 1)
    assert grants.allocate("0.0.1", 2, 2) is not None
    assert grants.allocate("0.0.1", 3, 2) is not None
    _record(grants, large, 2, 1)
    assert grants.find("0.0.1", 2)[1] is not None, "one number is left"
    grants.record_exit("0.0.1")
    assert grants.find("0.0.1", 2) == (None, None)
    assert [start for start, _ in arena.free_ranges] == [0]
