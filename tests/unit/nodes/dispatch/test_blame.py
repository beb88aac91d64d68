"""Verdicts: who has killed often enough, and who is cleared."""

from __future__ import annotations

from sluiceway.nodes.dispatch.blame import Blame, LastSeen, Phase
from sluiceway.nodes.program.kinds import NodeKind
from sluiceway.nodes.program.options import Options
from sluiceway.nodes.program.program import Step

_STEPS = tuple(
    Step(kind=NodeKind.MAP, node=name, node_id=at, inputs=(at,), output=at + 1, options=Options(retries=at))
    for at, name in enumerate("ab")
)
_CALL = ("a", 5, 0)


def _blame(max_deaths: int | None = 3) -> Blame:
    return Blame(_STEPS, max_deaths)


def test_a_call_is_named_by_node_number_and_index() -> None:
    assert _blame().call_of(LastSeen(Phase.EVENT, 1, 7, 2)) == ("b", 7, 2)


def test_a_verdict_is_given_at_the_last_death_allowed() -> None:
    blame = _blame()
    for _ in range(2):
        blame.record_call_death(_CALL, "was ended by SIGSEGV")
        assert not blame.verdicts
    blame.record_call_death(_CALL, "was ended by SIGKILL")
    verdict = blame.verdicts[_CALL]
    assert (verdict.kind, verdict.error, verdict.attempts) == ("died", "WorkerDied: was ended by SIGKILL", 3)


def test_deaths_of_different_calls_do_not_add_up() -> None:
    blame = _blame()
    for index in range(5):
        blame.record_call_death(("a", 5, index), "x")
    assert not blame.verdicts


def test_without_a_bound_there_is_never_a_verdict() -> None:
    blame = _blame(None)
    for _ in range(50):
        blame.record_call_death(_CALL, "x")
        assert blame.record_lone_death(6, "x") is None
    assert not blame.verdicts


def test_an_unexplained_death_counts_against_the_culprit_and_clears_the_others() -> None:
    blame = _blame()
    blame.suspect([(0, 8)])
    assert blame.concerns(3, 4)
    blame.record_call_death(_CALL, "x")
    assert not blame.concerns(0, 5)
    assert blame.concerns(5, 6)
    blame.record_call_death(_CALL, "x")
    assert _CALL in blame.verdicts
    for _ in range(2):
        blame.record_call_death(("a", 6, 0), "x")
    assert ("a", 6, 0) not in blame.verdicts, "its neighbour's death was explained"


def test_a_death_of_several_runs_is_one_death() -> None:
    blame = _blame()
    blame.suspect([(0, 2), (5, 6)])
    blame.record_call_death(_CALL, "x")
    assert not blame.concerns(0, 2)
    assert not blame.verdicts


def test_a_number_that_dies_outside_its_handlers_is_condemned_as_a_whole() -> None:
    blame = _blame()
    blame.suspect([(5, 7)])
    assert blame.record_lone_death(5, "x") is None
    verdict = blame.record_lone_death(5, "y")
    assert verdict is not None
    assert (verdict.error, verdict.attempts) == ("WorkerDied: y", 3)
    assert not blame.verdicts


def test_deaths_in_a_call_and_beside_it_add_up_for_the_call() -> None:
    blame = _blame()
    blame.record_call_death(_CALL, "x")
    blame.record_call_death(_CALL, "x")
    assert blame.record_lone_death(5, "x") is None
    assert _CALL in blame.verdicts


def test_a_time_out_is_an_attempt() -> None:
    blame = _blame()
    blame.record_timeout(("b", 1, 0), 0.5)
    assert blame.used == {("b", 1, 0): 1}
    assert not blame.verdicts
    blame.record_timeout(("b", 1, 0), 0.5)
    verdict = blame.verdicts["b", 1, 0]
    assert (verdict.kind, verdict.attempts) == ("timeout", 2)
    assert "timeout_s=0.5" in verdict.error


def test_what_is_released_is_forgotten() -> None:
    blame = _blame()
    blame.suspect([(0, 4)])
    blame.suspect([(2, 9)])
    blame.record_lone_death(20, "x")
    for _ in range(3):
        blame.record_call_death(("a", 12, 0), "x")
    blame.record_timeout(("b", 13, 0), 1.0)
    blame.forget(5)
    assert not blame.concerns(0, 2)
    assert blame.concerns(3, 9), "a suspicion stays while one of its numbers does"
    blame.forget(13)
    assert not blame.verdicts
    assert blame.concerns(13, 14)
    blame.forget(21)
    assert not blame.concerns(0, 100)


def test_who_dies_on_a_call_that_it_was_told_not_to_make_ends_its_number() -> None:
    blame = _blame()
    for _ in range(3):
        blame.record_call_death(_CALL, "x")
    assert not blame.condemned
    blame.record_call_death(_CALL, "y")
    [(call, verdict)] = blame.condemned
    assert (call, verdict.error) == (_CALL, "WorkerDied: x")
    assert blame.without_hopeless([(0, 4), (4, 9), (5, 6)]) == [(0, 4), (4, 5), (6, 9)]


def test_a_call_that_runs_on_although_it_was_not_to_be_made_ends_its_number() -> None:
    blame = _blame()
    for _ in range(3):
        blame.record_timeout(("b", 1, 0), 0.5)
    [(call, verdict)] = blame.condemned
    assert (call, verdict.kind) == (("b", 1, 0), "timeout")
