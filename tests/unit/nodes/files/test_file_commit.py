"""File sinks that are cut off at any moment: what is committed stays, what is not is undone, the bytes are the same."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import random
import stat
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from sluiceway.nodes.errors import CheckpointError
from sluiceway.nodes.files.api import csv, jsonl, lines
from sluiceway.nodes.files.streams import compression
from sluiceway.nodes.sinks import Batch

SUFFIXES = ["", ".gz", ".bz2", ".xz"]
UNPACK: dict[str, Any] = {"": bytes, ".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}


@pytest.fixture
def small_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MEMBER_BYTES", {".gz": 500, ".bz2": 700, ".xz": 900})


def crash(sink: Any) -> None:
    """Leave a sink as a SIGKILL does: what it has not handed to the system is gone, its locks too."""
    output, sink._output = sink._output, None
    if output is not None and output._file is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output._file.fileno())
        os.close(nowhere)
        output._file.close()


def event_of(kind: str, number: int) -> Any:
    chance = random.Random(number)
    text = f"{number} é " + "".join(chance.choices("abcdefghij", k=chance.randrange(60)))
    return text if kind == "lines" else {"number": number, "text": text}


def sink_of(kind: str, path: Path, **options: Any) -> Any:
    return {"lines": lines, "jsonl": jsonl, "csv": csv}[kind](path, **options)


def send(sink: Any, kind: str, first: int, stop: int) -> None:
    sink.write(Batch([event_of(kind, number) for number in range(first, stop)], [(n, 0) for n in range(first, stop)]))


def uninterrupted(kind: str, path: Path, stop: int, **options: Any) -> bytes:
    sink = sink_of(kind, path, **options)
    sink.open()
    send(sink, kind, 0, stop)
    sink.close()
    return path.read_bytes()


def copied(token: Any) -> Any:
    return pickle.loads(pickle.dumps(token))


def interrupted(sink: Any, kind: str, stop: int, chance: random.Random) -> int:
    """Run with commits and crashes at random; resume from the last or the last but one token. Give the crashes."""
    sink.open()
    tokens, number, crashes = [sink.commit(-1)], 0, 0
    while number < stop:
        more = min(stop, number + chance.randrange(1, 30))
        send(sink, kind, number, more)
        number = more
        if chance.random() < 0.3:
            tokens.append(sink.commit(number - 1))
        if chance.random() < 0.2:
            crash(sink)
            crashes += 1
            tokens = tokens[: max(len(tokens) - chance.randrange(2), 1)]
            number = sink.recover(copied(tokens[-1])) + 1
            assert number == tokens[-1]["n"] + 1
    tokens.append(sink.commit(stop - 1))
    for _ in range(2):  # the run has ended, and is cut off before its file is in place
        crash(sink)
        assert sink.recover(copied(tokens[-1])) == stop - 1
    sink.close()
    for _ in range(2):  # and after
        assert sink.recover(copied(tokens[-1])) == stop - 1
        sink.close()
    return crashes


@pytest.mark.parametrize("kind", ["lines", "jsonl", "csv"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.usefixtures("small_members")
def test_cut_off_anywhere_the_file_is_the_same(tmp_path: Path, kind: str, suffix: str) -> None:
    stop, crashes = 400, 0
    expected = uninterrupted(kind, tmp_path / f"whole{suffix}", stop)
    for seed in range(6):
        path = tmp_path / f"cut{seed}{suffix}"
        crashes += interrupted(sink_of(kind, path), kind, stop, random.Random(seed))
        assert path.read_bytes() == expected
        assert not Path(f"{path}.partial").exists()
    assert crashes > 5
    assert UNPACK[suffix](expected).count(b"\n") == stop + (kind == "csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "iso2022_jp_3"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.usefixtures("small_members")
def test_encodings_with_a_state_go_on_in_it(tmp_path: Path, encoding: str, suffix: str) -> None:
    expected = uninterrupted("lines", tmp_path / f"whole{suffix}", 200, encoding=encoding)
    for seed in range(4):
        path = tmp_path / f"cut{seed}{suffix}"
        interrupted(sink_of("lines", path, encoding=encoding), "lines", 200, random.Random(seed))
        assert path.read_bytes() == expected


@pytest.mark.parametrize("kind", ["lines", "jsonl", "csv"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_appended_files_hold_the_same(tmp_path: Path, kind: str, suffix: str) -> None:
    for existing in (False, True):
        whole, cut = tmp_path / f"whole{existing}{suffix}", tmp_path / f"cut{existing}{suffix}"
        for path in (whole, cut):
            if existing:
                uninterrupted(kind, path, 10)
        uninterrupted(kind, whole, 200, append=True)
        assert interrupted(sink_of(kind, cut, append=True), kind, 200, random.Random(3)) > 1
        unpack = UNPACK[suffix]
        assert unpack(cut.read_bytes()) == unpack(whole.read_bytes())
        if not suffix:
            assert cut.read_bytes() == whole.read_bytes()


def test_a_compressed_file_is_streams_of_equal_plain_size(tmp_path: Path) -> None:
    text = "0123456789abcdef" * 64
    path = tmp_path / "a.gz"
    sink = lines(path)
    sink.open()
    for _ in range(1500):
        sink.write([text])
    sink.close()
    sizes = []
    rest = path.read_bytes()
    while rest:
        unpacking = zlib.decompressobj(31)
        sizes.append(len(unpacking.decompress(rest)))
        rest = unpacking.unused_data
    size = compression.MEMBER_BYTES[".gz"]
    assert sizes == [size, size, 1500 * 1025 - 2 * size]
    assert subprocess.run(["gzip", "-t", str(path)], check=False).returncode == 0
    sink = lines(tmp_path / "empty.gz")
    sink.open()
    sink.close()
    assert subprocess.run(["gzip", "-t", str(tmp_path / "empty.gz")], check=False).returncode == 0


def test_the_token_is_small_and_plain(tmp_path: Path) -> None:
    sink = csv(tmp_path / "a.csv")
    sink.open()
    assert sink.commit(-1) == {
        "kind": "file", "n": -1, "length": 0, "check": 0, "tail": b"", "encoder": 0, "names": None, "whole": 0
    }  # fmt: skip
    sink.write([{"a": 1, "b": 2}])
    token = sink.commit(0)
    assert (token["n"], token["length"], token["names"]) == (0, 10, ["a", "b"])
    assert sink.commit(5) == {**token, "n": 5}  # nothing was written meanwhile
    sink.abort()
    packed = lines(tmp_path / "a.gz")
    packed.open()
    packed.write(["the same line over and over"] * 15_000)
    token = packed.commit(0)
    assert token["length"] == 0
    assert 0 < len(pickle.dumps(token)) < 10_000
    packed.abort()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_committed_is_with_the_system_at_once(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    sink = lines(path)
    sink.open()
    sink.write(["1"])
    token = sink.commit(0)
    partial = Path(f"{path}.partial")
    assert partial.stat().st_size == token["length"]
    assert token["length"] == (0 if suffix else 2)
    crash(sink)
    sink.recover(token)
    sink.abort()  # a run that failed after it had been resumed leaves all of it to be read
    assert UNPACK[suffix](partial.read_bytes()) == b"1\n"
    assert sink.recover(token) == 0  # and can be resumed again
    sink.write(["2"])
    sink.close()
    assert UNPACK[suffix](path.read_bytes()) == b"1\n2\n"


@pytest.mark.parametrize("append", [False, True])
def test_a_shortened_file_is_refused_with_both_lengths(tmp_path: Path, append: bool) -> None:
    path = tmp_path / "a"
    sink = lines(path, append=append)
    sink.open()
    sink.write(["1234"])
    token = sink.commit(0)
    crash(sink)
    held = path if append else tmp_path / "a.partial"
    held.write_bytes(b"12")
    with pytest.raises(CheckpointError, match=r"it has 2 bytes, but the checkpoint knows 5; put the file"):
        sink.recover(token)
    assert held.read_bytes() == b"12"
    held.write_bytes(b"12\n4\n67\n")
    with pytest.raises(CheckpointError, match=r"it has 8 bytes, but those before 5 are not"):
        sink.recover(token)
    assert held.read_bytes() == b"12\n4\n67\n"
    held.write_bytes(b"1234\n67\n")
    assert sink.recover(token) == 0
    sink.close()
    assert path.read_bytes() == b"1234\n"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("finished", [False, True])
def test_a_byte_that_changed_far_from_the_end_is_refused(
    tmp_path: Path, small_members: None, suffix: str, finished: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    sink = lines(path)
    sink.open()
    chance = random.Random(1)
    sink.write([str(chance.random()) for _ in range(5000)])
    token = sink.commit(0)
    crash(sink)
    sink.recover(token)  # the check goes on where it was
    sink.write([str(chance.random()) for _ in range(5000)])
    token = sink.commit(1)
    sink.close() if finished else crash(sink)
    held = path if finished else tmp_path / f"a{suffix}.partial"
    whole = held.read_bytes()
    for at in (0, 17, len(whole) // 2):
        held.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CheckpointError, match=r"cannot go on in .*a"):
            sink.recover(copied(token))
    held.write_bytes(whole)
    assert sink.recover(copied(token)) == 1
    sink.abort()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_missing_file_is_refused(tmp_path: Path, suffix: str) -> None:
    for append in (False, True):
        path = tmp_path / f"a{append}{suffix}"
        sink = lines(path, append=append)
        sink.open()
        sink.write(["1"])
        token = sink.commit(0)
        crash(sink)
        (path if append else Path(f"{path}.partial")).unlink()
        with pytest.raises(CheckpointError, match="it is not there"):
            sink.recover(token)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_older_file_in_place_is_not_taken_for_the_finished_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    old = uninterrupted("lines", path, 5)
    sink = lines(path)
    sink.open()
    send(sink, "lines", 0, 3)
    token = sink.commit(2)
    crash(sink)
    Path(f"{path}.partial").unlink()
    with pytest.raises(CheckpointError, match=rf"{path.name} has {len(old)} bytes where the run would have"):
        sink.recover(token)
    assert path.read_bytes() == old


def test_a_finished_file_takes_no_more(tmp_path: Path) -> None:
    sink = lines(tmp_path / "a")
    sink.open()
    sink.write(["1"])
    token = sink.commit(0)
    sink.close()
    assert sink.recover(token) == 0
    assert sink.commit(0) == token
    with pytest.raises(CheckpointError, match="finished and in its place"):
        sink.write(["2"])
    sink.close()
    assert (tmp_path / "a").read_text() == "1\n"


@pytest.mark.parametrize("token", [None, 5, {"kind": "sql", "n": 1}, {"kind": "file", "rows": 1}, ("file", 1)])
def test_a_token_of_another_sink_is_refused(tmp_path: Path, token: Any) -> None:
    with pytest.raises(CheckpointError, match="give the sink that the run had"):
        lines(tmp_path / "a").recover(token)


def test_a_file_that_another_run_writes_is_refused(tmp_path: Path) -> None:
    first, second = lines(tmp_path / "a"), lines(tmp_path / "a")
    first.open()
    first.write(["1"])
    token = first.commit(0)
    with pytest.raises(BlockingIOError, match="another sink"):
        second.recover(token)
    first.close()
    assert second.recover(token) == 0
    second.close()
    assert (tmp_path / "a").read_text() == "1\n"


def test_a_partial_file_is_for_the_same_eyes(tmp_path: Path) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    path, partial = tmp_path / "a", tmp_path / "a.partial"
    before = os.umask(0o022)
    try:
        sink = lines(path)
        sink.open()
        assert mode(partial) == 0o644
        sink.close()
        path.chmod(0o600)
        partial.touch(0o644)  # left by an earlier run
        sink.open()
        token = sink.commit(-1)
        assert mode(partial) == 0o600
        crash(sink)
        partial.chmod(0o644)
        sink.recover(token)
        assert mode(partial) == 0o600
        sink.write(["1"])
        sink.close()
        assert (mode(path), path.read_text()) == (0o600, "1\n")
        path.chmod(0o640)
        sink.open()
        assert mode(partial) == 0o640
        sink.abort()
    finally:
        os.umask(before)


def test_delivery_is_told_by_the_path(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, promised in (("-", "at-least-once"), (os.devnull, "at-least-once"), (tmp_path / "pipe", "at-least-once")):
        assert lines(path).delivery == promised
    assert lines(tmp_path / "a").delivery == csv(tmp_path / "a.gz", append=True).delivery == "exactly-once"


def test_standard_output_and_devices_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    sink = csv("-")
    sink.open()
    sink.write([{"a": 1}])
    token = copied(sink.commit(0))
    again = csv("-")
    assert again.recover(token) == 0
    again.write([{"a": 2}])
    again.close()
    assert printed.getvalue() == "a\r\n1\r\n2\r\n"
    device = lines(os.devnull)
    device.open()
    device.write(["1"])
    token = device.commit(0)
    device.close()
    assert device.recover(token) == 0
    device.write(["2"])
    device.close()
