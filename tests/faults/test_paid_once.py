"""Nothing is paid for twice: durable handlers are killed with all that runs them, and called again only for what was in hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from paid_calls import Program, Service, answer_of, counting_service

_SEEDS = {"async": 1, "plain": 2, "flat_map": 3, "batches": 4, "filter": 5, "two": 6, "letters": 7, "imap": 8}


def expected(how: str, total: int) -> tuple[list[str], list[str]]:
    """Return the lines of the output and of the dead letters, computed plainly."""
    answers = [answer_of(str(n)) for n in range(total)]
    lines: list[object] = {
        "flat_map": [answer + at for n, answer in enumerate(answers) for at in range(n % 3)],
        "filter": [n for n, answer in enumerate(answers) if answer % 2],
        "two": [answer_of(f"again {answer}") for answer in answers],
        "letters": [n for n, answer in enumerate(answers) if answer % 7],
    }.get(how, answers)
    letters = [f"{n} ValueError: refused" for n, answer in enumerate(answers) if answer % 7 == 0 and how == "letters"]
    return list(map(str, lines)), letters


def check(
    folder: Path, service: Service, how: str, *, total: int, kills: int, where: str = "", runner: str = "processes"
) -> None:
    """Kill a program so many times, and check what it has written and how often the service was called."""
    program = Program(folder, service, how, total, where=where, runner=runner)
    killed = program.kill_at_random(kills, random.Random(_SEEDS[how]))
    program.finish()
    lines, letters = expected(how, total)
    assert (folder / "out.txt").read_text().splitlines() == lines
    if how == "letters":
        assert (folder / "out.txt.letters").read_text().splitlines() == letters
    calls = sum(n % 3 for n in range(total)) if how == "flat_map" else total * (2 if how == "two" else 1)
    # Two handlers, or up to two calls in one handler's call.
    most = killed * program.workers * program.concurrency * (2 if how in ("two", "flat_map") else 1)
    if runner == "inline":
        most //= program.workers
    assert service.total <= calls + most, f"{service.total} calls for {calls}, {killed} kills may cost {most}"


def test_an_async_handler_is_killed_a_few_times(tmp_path: Path) -> None:
    with counting_service() as service:
        check(tmp_path, service, "async", total=800, kills=3)


def test_a_killed_run_goes_on_with_its_dead_letters(tmp_path: Path) -> None:
    with counting_service() as service:
        check(tmp_path, service, "letters", total=600, kills=2)


def test_a_map_is_killed_and_gives_all_results_again(tmp_path: Path) -> None:
    with counting_service() as service:
        check(tmp_path, service, "imap", total=600, kills=2)
        paid = service.total
        said = Program(tmp_path, service, "imap", 600).finish()
        assert (said, service.total) == ("recalled 600\n", paid)


@pytest.mark.parametrize("how", ["plain", pytest.param("async", marks=pytest.mark.slow)])
def test_a_run_in_the_calling_thread_is_killed(tmp_path: Path, how: str) -> None:
    with counting_service() as service:
        check(tmp_path, service, how, total=600, kills=2, runner="inline")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_kills_of_an_async_handler(tmp_path: Path) -> None:
    with counting_service() as service:
        check(tmp_path, service, "async", total=5000, kills=100)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("how", ["plain", "flat_map", "batches", "filter", "two"])
def test_kills_of_handlers_of_every_kind(tmp_path: Path, how: str) -> None:
    with counting_service() as service:
        check(tmp_path, service, how, total=5000, kills=25)
