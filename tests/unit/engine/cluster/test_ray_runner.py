"""What is said of a runner that cannot be, before any cluster is asked."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import sluiceway as sw


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"address": 5}, "cannot use address=: it is an int; pass a text"),
        ({"address": "ray://host:10001"}, "cannot use an address of Ray Client"),
        ({"runtime_env": "pip"}, "cannot use runtime_env=: it is a str; pass a dict"),
        ({"workers_per_deck": 0}, "workers_per_deck=0"),
        ({"start_limit_s": -1}, "start_limit_s=-1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(sw.GraphError, match=said):
        sw.ray_runner(**given)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(sw.GraphError, match=r"ray is not installed; .* pip install '\.\[ray\]'"):
        sw.imap(str, [1], runner="ray")
