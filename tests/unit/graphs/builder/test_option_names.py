"""The words of a call: unknown ones are answered with what was probably meant."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.engine.options import RunOptions
from sluiceway.graphs.builder.option_names import FOREIGN_NAMES, FOREIGN_OPTIONS, RUN_OPTION_NAMES, check_option_names
from sluiceway.nodes.program.options import HANDLER_OPTION_NAMES


def stream() -> sw.Stream[int]:
    return sw.Graph().source([1])


def test_the_words_of_a_run_are_its_options() -> None:
    assert tuple(option.name for option in fields(RunOptions)) == RUN_OPTION_NAMES


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("processes", "`workers`"), ("max_workers", "`workers`"), ("n_jobs", "`workers`"), ("chunksize", "size themselves"),
        ("initializer", "`setup`"), ("initargs", "`setup`"), ("worker_exit", "`close()`"), ("callback", "a sink"),
        ("error_callback", "`on_error`"), ("maxtasksperchild", "`max_events_per_worker`"), ("timeout", "`timeout_s`"),
        ("max_retries", "`retries`"), ("progress_bar", "`progress=True`"),
    ],
)  # fmt: skip
def test_words_of_other_libraries_are_answered_with_ours(word: str, ours: str) -> None:
    given: dict[str, Any] = {word: 4}
    for call, use in (
        ("Stream.map", lambda: stream().map(str, **given)),
        ("sw.imap", lambda: sw.imap(str, [1], **given)),
        ("sw.run", lambda: sw.run(sw.Graph(), **given)),
    ):
        with pytest.raises(TypeError) as caught:
            use()
        text = str(caught.value)
        assert text.startswith(f"{call} has no option {word!r}: ")
        assert ours in text


def test_no_word_of_another_library_is_one_of_ours() -> None:
    assert not {*FOREIGN_OPTIONS} & {*RUN_OPTION_NAMES, *HANDLER_OPTION_NAMES}
    assert [name for name in FOREIGN_NAMES if hasattr(sw, name)] == []


@pytest.mark.parametrize(("word", "meant"), [("worker", "workers"), ("retrys", "retries"), ("timelimit_s", "time_limit_s")])
def test_a_slip_is_answered_with_what_was_meant(word: str, meant: str) -> None:
    given: dict[str, Any] = {word: 4}
    with pytest.raises(TypeError, match=f"sw.imap has no option '{word}'; did you mean '{meant}'. it has workers, runner, "):
        sw.imap(str, [1], **given)


def test_options_are_told_in_one_order_whatever_the_seed_of_hashes() -> None:
    script = "import sluiceway as sw\ntry:\n    sw.imap(str, [1], colour=4)\nexcept TypeError as error:\n    print(error)"
    texts = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(texts) == 1
    assert texts.pop().startswith("sw.imap has no option 'colour'; it has workers, runner, ")


def test_an_option_of_another_call_is_told_where_it_belongs() -> None:
    with pytest.raises(TypeError, match=r"sw.run has no option 'retries': it belongs to the handler: stream.map\(fn, retries="):
        sw.run(sw.Graph(), retries=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Stream.map has no option 'limit': it belongs to the run: sw.run\(graph, limit="):
        stream().map(str, limit=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"Stream.map has no option 'batch_size': it belongs to map_batches"):
        stream().map(str, batch_size=4)  # type: ignore[call-overload]
    check_option_names(["limit"], ["limit", "stop"], call="sw.run")


def test_calls_of_other_libraries_are_answered_with_ours() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Pool'; use sw.imap"):
        _ = sw.Pool  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        _ = sw.nothing  # type: ignore[attr-defined]
    assert not hasattr(sw, "__wrapped__")


def test_a_function_of_several_arguments_is_told_how_to_get_them() -> None:
    with pytest.raises(sw.GraphError, match=r"one event alone; where that is a tuple of its arguments, give it lambda"):
        sw.imap(lambda a, b: a + b, [(1, 2)])
    with pytest.raises(TypeError, match=r"sw.imap takes one iterable; for several give it zip\(a, b\)"):
        sw.imap(lambda a, b: a + b, [1], [2])  # type: ignore[call-overload]
