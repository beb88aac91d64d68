"""Compressed files of several streams, cut or followed by something else: as strict as `gzip`, `bzip2` and `xz` are."""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sluiceway.nodes.files.api import lines

PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
TOOLS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}


def verdict(path: Path) -> bytes | None:
    """Return what the system's program unpacks, `None` where it complains."""
    if shutil.which(TOOLS[path.suffix]) is None:
        return unpacked(path)
    done = subprocess.run([TOOLS[path.suffix], "-dc", path], capture_output=True, check=False)
    return None if done.returncode or done.stderr else done.stdout


def unpacked(path: Path) -> bytes | None:
    """Return what python's modules unpack, stream by stream, `None` for anything that is no stream."""
    data, plain = path.read_bytes(), b""
    if not data:
        return None
    while data:
        if plain and path.suffix == ".gz" and not data.strip(b"\0"):
            return plain
        if plain and path.suffix == ".xz" and data.startswith(bytes(4)):
            data = data[4:]
            continue
        try:
            if path.suffix == ".gz":
                import zlib

                stream: object = zlib.decompressobj(wbits=31)
            else:
                stream = bz2.BZ2Decompressor() if path.suffix == ".bz2" else lzma.LZMADecompressor()
            plain += stream.decompress(data)  # type: ignore[attr-defined]
        except Exception:
            return None
        if not stream.eof:  # type: ignore[attr-defined]
            return None
        data = stream.unused_data  # type: ignore[attr-defined]
    return plain


def read(path: Path) -> bytes | None:
    reader, parts = lines(path, keep_newline=True).reader(None), []
    try:
        while (more := reader.read(100, 1 << 20)) is not None:
            parts += more
    except OSError as error:
        if not str(error).startswith(f"cannot read {path}"):
            raise
        return None
    finally:
        reader.close()
    return "".join(parts).encode()


def text(seed: int) -> bytes:
    chance = random.Random(seed)
    return b"".join(b"%d\n" % chance.randrange(1 << 60) for _ in range(chance.randrange(1, 6)))


def tails(suffix: str) -> list[bytes]:
    """Return what is put behind whole streams: nothing, zeros, rubbish, parts of a stream, damaged ones."""
    last = PACK[suffix](text(9))
    cut = [last[:size] for size in range(len(last))]
    zeros = [bytes(size) for size in (1, 3, 4, 8, 70_000)]
    rubbish = [b"x", b"rubbish", b"\xff" * 100, b"\n", b"\x1f", b"BZ", b"\xfd7zXZ"]
    places = [at for at in range(0, len(last), 7) if at not in range(4, 10)]  # time and system, which gzip does not check
    bent = [bytes([*last[:at], last[at] ^ 0x55, *last[at + 1 :]]) for at in places]
    behind = [zero + last for zero in zeros] + [last + zero for zero in zeros] + [zero + b"x" for zero in zeros]
    return [b"", last, last + last, *cut, *zeros, *rubbish, *bent, *behind]


@pytest.mark.parametrize("suffix", list(PACK))
@pytest.mark.parametrize("streams", [0, 1, 3])
def test_the_verdict_is_that_of_the_program(tmp_path: Path, suffix: str, streams: int) -> None:
    path = tmp_path / f"a{suffix}"
    begin = b"".join(PACK[suffix](text(number)) for number in range(streams))
    accepted = 0
    for tail in tails(suffix):
        path.write_bytes(begin + tail)
        expected = verdict(path)
        assert read(path) == expected, (streams, tail[:80])
        accepted += expected is not None
    assert accepted >= 2


@pytest.mark.parametrize("suffix", list(PACK))
def test_streams_across_the_blocks_that_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    chance = random.Random(1)
    parts = [chance.randbytes(chance.choice([0, 1, 500, 70_000])).hex().encode() + b"\n" for _ in range(60)]
    path.write_bytes(b"".join(map(PACK[suffix], parts)))
    assert read(path) == b"".join(parts)
    path.write_bytes(path.read_bytes()[:-1])
    assert read(path) is None


@pytest.mark.parametrize("suffix", list(PACK))
def test_what_is_whole_is_read_before_the_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(PACK[suffix](b"one\ntwo\n") + b"rubbish" * 9)
    reader = lines(path).reader(None)
    assert reader.read(10, 1 << 20) == ["one", "two"]
    with pytest.raises(OSError, match=r"past line 2: its \w+ stream 2, behind 1 that are whole, is none or is damaged"):
        functools.reduce(lambda _, __: reader.read(10, 1 << 20), range(3), None)
    reader.close()


@pytest.mark.parametrize("suffix", list(PACK))
def test_a_whole_stream_is_read_before_the_next_one_comes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    os.mkfifo(path)
    both = os.open(path, os.O_RDWR)
    reader = lines(path).reader(None)
    os.write(both, PACK[suffix](b"one\n"))
    assert reader.read(1, 1 << 20) == ["one"]
    os.write(both, PACK[suffix](b"two\n"))
    assert reader.read(1, 1 << 20) == ["two"]
    os.close(both)
    assert reader.read(1, 1 << 20) is None
    reader.close()


@pytest.mark.parametrize("suffix", list(PACK))
def test_an_empty_file_is_no_compressed_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    reader = lines(path).reader(None)
    with pytest.raises(OSError, match="it is empty, which no"):
        reader.read(10, 1 << 20)
    reader.close()
