"""The ready-made graphs: right results, the same inline and in processes, and what bad input does."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import zlib
from functools import partial
from pathlib import Path

import pytest
import sluiceway as sw
from hypothesis import given
from hypothesis import strategies as st
from sluiceway.engine.cli import demo
from sluiceway.graphs import census, logins
from sluiceway.graphs import gzip as ready_gzip

RUNNERS = ("inline", "processes")


def json_lines(path: Path) -> list[dict[str, object]]:
    """Read a JSON lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


# Logins


def test_logins_are_kept_in_order_and_malformed_lines_set_apart(tmp_path: Path) -> None:
    source = tmp_path / "events.jsonl"
    sample = logins.write_sample(source, events=3000, seed=7, malformed=0.02)
    lines = source.read_text().splitlines()
    assert len(lines) == sample.events == 3000
    assert 300 < sample.logins < 600
    assert 30 < sample.malformed < 100
    for runner in RUNNERS:
        output, rejected = tmp_path / f"{runner}.jsonl", tmp_path / f"{runner}-rejected.jsonl"
        graph = logins.graph(input=str(source), output=str(output), rejected=str(rejected))
        report = sw.run(graph, runner=runner, workers=2)
        letters = json_lines(rejected)
        assert report.dead_letters == len(letters) == sample.malformed
        assert [letter["event"] for letter in letters] == [lines[int(str(letter["seq"]))] for letter in letters]
        assert {letter["node"] for letter in letters} == {"parse"}
        kept = json_lines(output)
        assert [event["id"] for event in kept] == [
            json.loads(line)["id"] for line in lines if '"type": "user_login"' in line and is_event(line)
        ]
        assert len(kept) == sample.logins
    assert (tmp_path / "inline.jsonl").read_bytes() == (tmp_path / "processes.jsonl").read_bytes()
    inline, processes = (json_lines(tmp_path / f"{runner}-rejected.jsonl") for runner in RUNNERS)
    assert [{**letter, "traceback": ""} for letter in inline] == [{**letter, "traceback": ""} for letter in processes]


def is_event(line: str) -> bool:
    """Whether a line is a user event, in other words than the graph's."""
    try:
        return "type" in dict(json.loads(line))
    except (ValueError, TypeError):
        return False


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '{"at": 1}', '{"type": 3}', '["type"]'])
def test_what_is_no_user_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        logins.parse(line)


def test_samples_repeat_and_are_compressed_by_suffix(tmp_path: Path) -> None:
    plain, packed, other = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"
    assert logins.write_sample(plain, events=200) == logins.write_sample(packed, events=200)
    logins.write_sample(other, events=200, seed=2)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes() != other.read_bytes()
    assert logins.write_sample(plain, events=50, malformed=0.0).malformed == 0
    assert all(map(is_event, plain.read_text().splitlines()))


def test_a_compressed_log_from_the_shell(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sluiceway.graphs.logins", "s.jsonl.gz", "--events", "400", "--malformed", "0.1"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("s.jsonl.gz: 400 events, ")
    names = {name: str(tmp_path / f"{name}.jsonl.gz") for name in ("output", "rejected")}
    report = sw.run(logins.graph(input=str(tmp_path / "s.jsonl.gz"), **names), runner="inline")
    assert report.events_in == 400
    told = f", {report.events_out:,} logins, {report.dead_letters:,} malformed lines\n"
    assert done.stdout.endswith(told)
    assert len(gzip.decompress(Path(names["output"]).read_bytes()).splitlines()) == report.events_out


# Census


CODE = """
import os, sys
from ast import parse
class A:
    async def b(self):
        for c in [d for d in range(3) if d]:
            if c and self:
                return lambda: c
def e(): pass
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Make a folder of Python files, some of which do not parse."""
    root = tmp_path / "library"
    for name, content in {
        "a.py": CODE.encode(),
        "b/__init__.py": b"",
        "b/latin.py": "# -*- coding: latin-1 -*-\nx = 'é'".encode("latin-1"),
        "b/escape.py": b"x = '\\d'\nassert (x, 'y')\nx is 'z'\n",
        "bad/coding.py": b"# coding: no-such-coding\n",
        "bad/nul.py": b"x = '\0'\n",
        "bad/old.py": b"print 'x'\n",
        "bad/bytes.py": b"x = '\xff'\n",
        "site-packages/foreign.py": b"x = 1\n",
        "note.txt": b"no Python",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "folder.py").mkdir()
    return root


def test_a_census_measures_every_file_in_order(library: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"{runner}.jsonl" for runner in RUNNERS]
    for output, runner in zip(outputs, RUNNERS, strict=True):
        sw.run(census.graph(root=str(library), output=str(output)), runner=runner, workers=2)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    records = {str(record["path"]): record for record in json_lines(outputs[0])}
    assert list(records) == [
        "a.py", "b/__init__.py", "b/escape.py", "b/latin.py", "bad/bytes.py", "bad/coding.py", "bad/nul.py",
        "bad/old.py",
    ]
    assert records["a.py"] == {
        "path": "a.py",
        "bytes": len(CODE),
        "sha256": hashlib.sha256(CODE.encode()).hexdigest(),
        "lines": 9,
        "functions": 3,
        "classes": 1,
        "imports": 2,
        "branches": 4,
        "nesting": 4,
    }
    assert records["b/__init__.py"]["lines"] == 0
    assert records["b/latin.py"]["lines"] == 2
    failed = {path: str(record["error"]).partition(":")[0] for path, record in records.items() if "error" in record}
    assert set(failed) == {path for path in records if path.startswith("bad/")}
    assert set(failed.values()) <= {"SyntaxError", "ValueError"}


def test_deep_code_is_measured_or_reported(tmp_path: Path) -> None:
    (tmp_path / "chain.py").write_text("x = a" + ".b" * 900 + "\n")
    (tmp_path / "deep.py").write_text("x = " + "-" * 100_000 + "1\n")
    assert census.measure("chain.py", root=str(tmp_path))["functions"] == 0
    assert "error" in census.measure("deep.py", root=str(tmp_path))


def test_a_census_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="it is not a folder; name a folder as root"):
        census.graph(root=str(tmp_path / "nowhere"))


def test_the_standard_library_is_the_default() -> None:
    paths = census.graph().nodes[0].subject
    assert {"ast.py", "json/__init__.py"} < set(paths)
    assert paths == sorted(paths)
    assert not any("site-packages" in path for path in paths)


def test_the_demonstration_compares_both_runs(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "graph", partial(census.graph, root=str(library)))
    monkeypatch.setattr(sys, "argv", ["demo", str(tmp_path / "new" / "out")])
    assert demo.main() == 0
    told = capsys.readouterr().out
    assert "times as fast" in told
    assert told.endswith(f"{tmp_path / 'new' / 'out' / 'census.jsonl'} has one record for each of 8 files\n")
    assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == ["census.jsonl"]


# Gzip


def text(size: int) -> bytes:
    """Make text that compresses as prose does."""
    chance = random.Random(size)
    words = [bytes(chance.choices(b"etaoinshrdlu", k=chance.randrange(2, 9))) for _ in range(2000)]
    return b" ".join(chance.choices(words, k=size // 5))[:size]


def packed(source: Path, output: Path, runner: str, **words: int) -> bytes:
    """Compress a file with the graph and give the bytes."""
    sw.run(ready_gzip.graph(input=str(source), output=str(output), **words), runner=runner, workers=2)  # type: ignore[arg-type]
    return output.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 65_000, 200_001])
def test_every_size_comes_back(tmp_path: Path, size: int) -> None:
    data = text(size) if size < 100_000 else random.Random(1).randbytes(size)
    source = tmp_path / "data"
    source.write_bytes(data)
    block_bytes = 1000 if size < 10_000 else 30_000
    inline = packed(source, tmp_path / "inline.gz", "inline", block_bytes=block_bytes)
    assert gzip.decompress(inline) == data
    assert inline == packed(source, tmp_path / "processes.gz", "processes", block_bytes=block_bytes)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.skipif(shutil.which("gzip") is None, reason="there is no gzip")
def test_gzip_takes_it_and_makes_it_hardly_smaller(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_bytes(text(1_500_000))
    size = len(packed(source, tmp_path / "data.gz", "processes"))
    subprocess.run(["gzip", "-t", tmp_path / "data.gz"], check=True)
    unpacked = subprocess.run(["gzip", "-dc", tmp_path / "data.gz"], check=True, capture_output=True).stdout
    assert unpacked == source.read_bytes()
    reference = len(subprocess.run(["gzip", "-6", "-c", source], check=True, capture_output=True).stdout)
    assert size <= 1.01 * reference


@pytest.mark.parametrize("level", [0, 1, 9])
def test_levels_count(tmp_path: Path, level: int) -> None:
    source = tmp_path / "data"
    source.write_bytes(data := text(100_000))
    squeezed = packed(source, tmp_path / "data.gz", "inline", level=level, block_bytes=40_000)
    assert gzip.decompress(squeezed) == data
    assert abs(len(squeezed) - len(zlib.compress(data, level))) < 1500


def test_the_output_is_named_after_the_input(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"abc")
    graph = ready_gzip.graph(input=str(tmp_path / "data"))
    for _ in range(2):  # a graph may be run again
        sw.run(graph, runner="inline")
        assert gzip.decompress((tmp_path / "data.gz").read_bytes()) == b"abc"


@pytest.mark.parametrize("words", [{"level": 10}, {"level": -1}, {"block_bytes": 0}])
def test_values_out_of_range_are_refused(words: dict[str, int]) -> None:
    with pytest.raises(sw.GraphError, match=r"choose one of these|1 byte or more"):
        ready_gzip.graph(input="data", **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_missing_input_leaves_the_output_alone(tmp_path: Path, runner: str) -> None:
    output = tmp_path / "data.gz"
    output.write_bytes(b"before")
    with pytest.raises(sw.GraphError, match="there is no such file"):
        packed(tmp_path / "data", output, runner)
    with pytest.raises(sw.GraphError, match="reads it"):
        packed(output, output, runner)
    assert output.read_bytes() == b"before"


def test_blocks_go_on_from_a_position(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_bytes(data := text(200_000))
    blocks = ready_gzip.FileBlocks(str(source), 15_000)
    assert blocks.size_hint() == 14
    reader = blocks.reader(None)
    whole = []
    positions = []
    while (batch := reader.read(1)) is not None:
        whole += [piece.read() for piece in batch]
        positions.append(reader.position())
    reader.close()
    assert b"".join(block.data for block in whole) == data
    assert [len(block.before) for block in whole[:4]] == [0, 15_000, 30_000, ready_gzip.WINDOW_BYTES]
    for at in (0, 3, 13):
        again = blocks.reader(positions[at])
        assert [piece.read() for piece in again.read(5) or ()] == whole[at + 1 : at + 6]
        again.close()


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_pipe_is_read_block_by_block(tmp_path: Path, runner: str) -> None:
    pipe, plain, data = tmp_path / "pipe", tmp_path / "data", text(200_000)
    os.mkfifo(pipe)
    plain.write_bytes(data)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    given = packed(pipe, tmp_path / "pipe.gz", runner, block_bytes=15_000)
    writer.join()
    assert given == packed(plain, tmp_path / "data.gz", runner, block_bytes=15_000)


def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_bytes(text(100_000))
    (piece,) = ready_gzip.FileBlocks(str(source), 100_000).reader(None).read(1) or ()
    os.truncate(source, 99_999)
    with pytest.raises(OSError, match="has become shorter"):
        ready_gzip.deflate(piece, level=6)


@given(st.binary(), st.binary(max_size=300))
def test_sums_of_pieces_are_the_sum_of_the_whole(first: bytes, second: bytes) -> None:
    combined = ready_gzip.crc32_combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


def test_sums_of_large_pieces() -> None:
    zeros = bytes(5_000_011)
    combined = ready_gzip.crc32_combine(zlib.crc32(b"before"), zlib.crc32(zeros), len(zeros))
    assert combined == zlib.crc32(b"before" + zeros)
