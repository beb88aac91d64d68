"""The options of a run: which values are accepted, and what is said of the others."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy
import pytest
from sluiceway.engine.options import RunKeywords, RunOptions, check_run_options
from sluiceway.graphs.builder.option_names import RUN_OPTION_NAMES
from sluiceway.nodes.errors import GraphError


def test_the_words_are_the_fields() -> None:
    assert tuple(RunKeywords.__annotations__) == RUN_OPTION_NAMES


def test_the_defaults_are_accepted() -> None:
    assert check_run_options({}, "sw.run") == RunOptions()


@pytest.mark.parametrize(
    "given",
    [
        {"max_deaths": None},
        {"workers": None},
        {"progress": None},
        {"progress": print},
        {"limit": 0},
        {"drain_s": 0},
        {"stop": threading.Event()},
    ],
)
def test_what_is_accepted(given: dict[str, Any]) -> None:
    [(name, value)] = given.items()
    assert getattr(check_run_options(given, "sw.run"), name) == value


def test_numbers_become_plain() -> None:
    options = check_run_options({"workers": numpy.int64(2), "drain_s": 3}, "sw.run")
    assert (type(options.workers), type(options.drain_s)) == (int, float)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"workers": 0}, "sw.run: workers=0, but it must be a whole number, 1 or more; leave it out for one per core"),
        ({"workers": True}, "sw.run: workers=True, but it must be a whole number, 1 or more; leave it out for one per core"),
        ({"limit": -1}, "sw.run: limit=-1, but it must be a whole number, 0 or more; leave it out for no limit"),
        ({"drain_s": None}, "sw.run: drain_s=None, but it must be a number of seconds, 0 or more; leave it out for the default"),
        ({"max_deaths": 0}, "sw.run: max_deaths=0, but it must be a whole number, 1 or more; pass None for any number"),
        ({"close_s": -1}, "sw.run: close_s=-1, but it must be a number of seconds, 0 or more; leave it out for the default"),
        ({"runner": "threads"}, "sw.run cannot use runner='threads': there are 'processes', 'inline' and 'ray'; choose one"),
        ({"resume": None}, "sw.run cannot use resume=None: there are 'auto', 'never' and 'required'; choose one"),
        ({"transport": "udp"}, "sw.run cannot use transport='udp': there are 'ipc' and 'tcp'; choose one"),
        ({"stop": 1}, "sw.run cannot use stop=: it has no is_set(); pass a threading.Event or the like"),
        ({"progress": 1}, "sw.run cannot use progress=: it is True, False or a callable that takes a RunReport"),
        ({"resume": "required"}, "sw.run cannot use resume='required' without checkpoint=: name what the run continues from"),
    ],
)  # fmt: skip
def test_what_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(GraphError, match=f"^{re.escape(text)}$"):
        check_run_options(given, "sw.run")
