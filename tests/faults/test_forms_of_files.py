"""A run goes on in files of the form that it began with, and a damaged file is never read as a shorter one."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw


def copy(folder: Path, source: Any, sink: Any, fail_at: str | None = None) -> None:
    """Copy events until one of them fails."""

    def work(event: Any) -> Any:
        if fail_at is not None and fail_at in str(event):
            raise RuntimeError("enough")
        return event

    graph = sw.Graph("copied")
    graph.source(source, name="in").map(work).sink(sink, name="out")
    sw.run(graph, runner="inline", checkpoint=folder / "run.db", checkpoint_interval_s=1e-9)


@pytest.mark.parametrize("append", [False, True])
def test_a_run_goes_on_in_the_form_that_it_began_with(tmp_path: Path, append: bool) -> None:
    given, out = tmp_path / "in.csv", tmp_path / "out"
    given.write_text("a,b\n" + "".join(f"{n},x\n" for n in range(30)))
    begun = sw.csv(given), sw.csv(out, append=append)
    with pytest.raises(sw.HandlerError):
        copy(tmp_path, *begun, fail_at="20")
    for source, sink, said in (
        (sw.csv(given, delimiter=";"), begun[1], 'node \'in\' .*delimiter is ";", it was ","'),
        (sw.csv(given, encoding="latin-1"), begun[1], 'encoding is "iso8859-1", it was "utf-8"'),
        (sw.lines(given), begun[1], 'format is "lines", it was "csv"'),
        (begun[0], sw.csv(out, append=append, delimiter="\t"), r'node \'out\' .*delimiter is "\\t", it was ","'),
        (begun[0], sw.jsonl(out, append=append), 'format is "jsonl", it was "csv"'),
        (begun[0], sw.csv(out, append=not append), "append is"),
    ):
        with pytest.raises(sw.CheckpointError, match=said):
            copy(tmp_path, source, sink)
    copy(tmp_path, *begun)
    assert out.read_text() == given.read_text()


@pytest.mark.parametrize("runner", ["inline", "processes"])
@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (gzip.compress(b"two\n", mtime=0)[:-1], "stream 2 ends too early"),
        (b"rubbish", "stream 2, behind 1 that are whole, is none"),
    ],
)
def test_what_stands_behind_a_first_stream_is_read_or_the_run_fails(
    tmp_path: Path, runner: str, behind: bytes, said: str
) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one\n") + behind)
    taken: list[str] = []
    graph = sw.Graph("damaged")
    graph.source(sw.lines(path)).map(str.strip).sink(taken.append)
    with pytest.raises(sw.SourceError, match=said):
        sw.run(graph, **({"runner": "inline"} if runner == "inline" else {"workers": 1}))
    assert taken[0] == "one"
