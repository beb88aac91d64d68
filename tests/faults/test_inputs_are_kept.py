"""A run never writes what it reads, nor reads what it writes: refused before anything is opened, under every name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw

pytestmark = pytest.mark.usefixtures("in_folder")

TEXT = "one\ntwo\n"


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def copied(source: Any, sink: Any, **words: Any) -> sw.RunReport:
    graph = sw.Graph("copied")
    graph.source(source).sink(sink)
    return sw.run(graph, **words)


def saved_partial() -> tuple[Any, Any]:
    Path("out.partial").write_text(TEXT)
    return sw.lines("out.partial"), sw.lines("out")


def one_of_a_list() -> tuple[Any, Any]:
    Path("a").write_text("more\n")
    Path("out.partial").write_text(TEXT)
    return sw.lines(["a", "out.partial"]), sw.lines("out")


def through_a_link() -> tuple[Any, Any]:
    Path("out.partial").write_text(TEXT)
    os.symlink("out.partial", "kept")
    return sw.lines("kept"), sw.lines("out")


def through_a_hard_link() -> tuple[Any, Any]:
    Path("out.partial").write_text(TEXT)
    os.link("out.partial", "kept")
    return sw.lines("kept"), sw.lines("out")


def by_a_pattern() -> tuple[Any, Any]:
    Path("out.partial").write_text(TEXT)
    return sw.lines("*.partial"), sw.lines("out")


def appended_to_itself() -> tuple[Any, Any]:
    Path("a").write_text(TEXT)
    return sw.lines("a"), sw.lines("./a", append=True)


def appended_through_a_link() -> tuple[Any, Any]:
    Path("a").write_text(TEXT)
    os.symlink("a", "b")
    return sw.lines("a"), sw.jsonl("b", append=True)


def replaced() -> tuple[Any, Any]:
    Path("a").write_text(TEXT)
    return sw.lines("a"), sw.lines("a")


def one_object_for_both() -> tuple[Any, Any]:
    Path("a").write_text(TEXT)
    both = sw.lines("a")
    return both, both


def pattern_takes_the_output_in() -> tuple[Any, Any]:
    Path("logs").mkdir()
    Path("logs/a.txt").write_text(TEXT)
    return sw.lines("logs/*"), sw.lines("logs/zall.txt")


def pattern_takes_the_finished_output_in() -> tuple[Any, Any]:
    Path("a.txt").write_text(TEXT)
    return sw.lines("*.txt"), sw.lines("zall.txt")


def deep_pattern() -> tuple[Any, Any]:
    Path("logs/old").mkdir(parents=True)
    Path("logs/old/a.txt").write_text(TEXT)
    return sw.lines("logs/**"), sw.lines("logs/old/z", append=True)


def pattern_through_a_linked_folder() -> tuple[Any, Any]:
    Path("logs").mkdir()
    Path("logs/a.txt").write_text(TEXT)
    os.symlink("logs", "linked")
    return sw.lines("linked/*.txt"), sw.lines("logs/z.txt")


CASES = [
    saved_partial,
    one_of_a_list,
    through_a_link,
    through_a_hard_link,
    by_a_pattern,
    appended_to_itself,
    appended_through_a_link,
    replaced,
    one_object_for_both,
    pattern_takes_the_output_in,
    pattern_takes_the_finished_output_in,
    deep_pattern,
    pattern_through_a_linked_folder,
]


def everything() -> dict[str, str]:
    return {str(path): path.read_text() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("words", [{"runner": "inline"}, {"workers": 1}, {}], ids=["inline", "workers", "auto"])
def test_what_is_read_is_never_written(case: Callable[[], tuple[Any, Any]], words: dict[str, Any]) -> None:
    source, sink = case()
    before = everything()
    with pytest.raises(sw.GraphError, match=r"^cannot write .* reads it|^cannot write .* would read it") as caught:
        copied(source, sink, **words)
    assert "write to another" in str(caught.value)
    assert everything() == before


def test_an_open_file_is_read_too() -> None:
    Path("a").write_text(TEXT)
    with open("a") as file, pytest.raises(sw.GraphError, match=r"cannot write a: .* reads it"):
        copied(file, sw.lines("a", append=True), runner="inline")
    assert Path("a").read_text() == TEXT


def test_dead_letters_do_not_go_to_the_source() -> None:
    Path("a").write_text(TEXT)
    graph = sw.Graph("letters")
    graph.source(sw.lines("a")).map(int, on_error="dead_letter").sink(print)
    graph.dead_letters().sink(sw.jsonl("a", append=True))
    with pytest.raises(sw.GraphError, match=r"cannot write a: .* reads it"):
        sw.run(graph, runner="inline")
    assert Path("a").read_text() == TEXT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: sw.lines("out"), lambda: sw.lines("out")),
        (lambda: sw.lines("out"), lambda: sw.lines("./out", append=True)),
        (lambda: sw.lines("out"), lambda: sw.lines("out.partial")),
        (lambda: sw.lines("out", append=True), lambda: sw.jsonl("out", append=True)),
    ],
)
def test_two_sinks_never_write_one_file(one: Callable[[], Any], other: Callable[[], Any]) -> None:
    graph = sw.Graph("twice")
    events = graph.source(["a"])
    events.sink(one())
    events.sink(other())
    with pytest.raises(sw.GraphError, match="two sinks would write it"):
        sw.run(graph, runner="inline")
    assert not everything()


def test_the_store_of_checkpoints_is_no_output() -> None:
    Path("a").write_text(TEXT)
    with pytest.raises(sw.GraphError, match=r"cannot write run\.db: .* checkpoint"):
        copied(sw.lines("a"), sw.lines("run.db"), runner="inline", checkpoint="run.db")
    assert everything() == {"a": TEXT}


def test_neighbours_are_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    Path("logs").mkdir()
    Path("logs/a.txt").write_text(TEXT)
    copied(sw.lines("logs/*.txt"), sw.lines("logs/all"), workers=1)
    assert Path("logs/all").read_text() == TEXT
    copied(sw.lines("logs/a.*"), sw.lines("logs/.a"), runner="inline")
    assert Path("logs/.a").read_text() == TEXT
    assert not caplog.records


def test_what_a_failed_run_left_is_not_replaced_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    Path("a").write_text(TEXT)
    Path("out.partial").write_text("what an earlier run left")
    copied(sw.lines("a"), sw.lines("out"), runner="inline")
    assert Path("out").read_text() == TEXT
    [record] = caplog.records
    assert "out.partial" in record.getMessage()
    assert "24 bytes" in record.getMessage()


def test_its_other_name_keeps_what_a_failed_run_left() -> None:
    Path("a").write_text(TEXT)
    Path("out.partial").write_text("what an earlier run left")
    os.link("out.partial", "kept")
    copied(sw.lines("a"), sw.lines("out"), runner="inline")
    assert Path("out").read_text() == TEXT
    assert Path("kept").read_text() == "what an earlier run left"


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_the_partial_file_is_not_followed(there: bool) -> None:
    Path("a").write_text(TEXT)
    if there:
        Path("precious").write_text("precious")
    os.symlink("precious", "out.partial")
    with pytest.raises(sw.SinkError, match=r"out\.partial is a symbolic link of user"):
        copied(sw.lines("a"), sw.lines("out"), runner="inline")
    assert Path("precious").exists() == there
    assert not there or Path("precious").read_text() == "precious"
    assert not Path("out").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_a_partial_file_of_another_user_stays() -> None:
    Path("a").write_text(TEXT)
    Path("out.partial").write_text("another's")
    os.chown("out.partial", 65534, 65534)
    with pytest.raises(sw.SinkError, match=r"out\.partial belongs to user nobody"):
        copied(sw.lines("a"), sw.lines("out"), runner="inline")
    assert Path("out.partial").read_text() == "another's"


def test_a_pipe_in_place_of_the_partial_file_is_refused() -> None:
    Path("a").write_text(TEXT)
    os.mkfifo("out.partial")
    with pytest.raises(sw.SinkError, match=r"out\.partial is no regular file"):
        copied(sw.lines("a"), sw.lines("out"), runner="inline")


# -- an input that is not there -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [{"runner": "inline"}, {"workers": 1}, {}], ids=["inline", "workers", "auto"])
@pytest.mark.parametrize(
    ("paths", "text"),
    [
        ("nofile.txt", r"^cannot read nofile\.txt: there is no such file in "),
        (["a", "nofile.txt"], r"^cannot read nofile\.txt: there is no such file in "),
        ("no*.txt", r"^cannot read no\*\.txt: no file matches this pattern in "),
        ("folder", r"^cannot read folder: it is a folder"),
    ],
)
def test_a_missing_input_is_refused_before_anything_starts(paths: Any, text: str, words: dict[str, Any]) -> None:
    Path("a").write_text(TEXT)
    Path("folder").mkdir()
    with pytest.raises(sw.GraphError, match=text):
        copied(sw.csv(paths), sw.lines("out"), checkpoint="run.db", **words)
    with pytest.raises(sw.GraphError, match=text):
        copied(sw.csv(paths), sw.lines("out"), **words)
    assert everything() == {"a": TEXT}


def test_a_finished_run_needs_its_inputs_no_more() -> None:
    Path("a").write_text(TEXT)
    copied(sw.lines("a"), sw.lines("out"), runner="inline", checkpoint="run.db")
    Path("a").unlink()
    copied(sw.lines("a"), sw.lines("out"), runner="inline", checkpoint="run.db")
    assert Path("out").read_text() == TEXT
