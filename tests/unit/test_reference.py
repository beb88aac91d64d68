"""The reference page and `help` say what the code says."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sluiceway as sw
from sluiceway.engine.options import RunOptions
from sluiceway.nodes.meanings import meaning_of
from sluiceway.nodes.program.options import HANDLER_OPTION_NAMES, Options

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_code_says(maker: ModuleType) -> None:
    assert (DOCS / "reference.md").read_text() == maker.render(), "run: python docs/make_reference.py"


def test_the_page_shows_every_public_name_once(maker: ModuleType) -> None:
    shown = [name for _, _, names in maker.PARTS for name in names]
    assert sorted(shown) == sorted(sw.__all__)


def test_nothing_of_the_page_changes_from_run_to_run(maker: ModuleType) -> None:
    assert " at 0x" not in maker.render()


@pytest.mark.parametrize("cls", [RunOptions, Options, sw.RunReport, sw.NodeReport, sw.OrderReport])
def test_every_field_says_what_it_means(cls: Any) -> None:
    assert [one.name for one in fields(cls) if not meaning_of(one)] == []
    assert all(f"\n    {one.name}: " in cls.__doc__ for one in fields(cls))


def test_help_shows_the_options_of_a_run() -> None:
    shown = inspect.signature(sw.run).parameters
    assert [*shown] == ["graph", *(one.name for one in fields(RunOptions))]
    assert shown["window_bytes"].default == 64 << 20
    assert "progress: bool | Callable[[RunReport], object] | None = False\n" in (sw.run.__doc__ or "")
    assert "\n    checkpoint_interval_s: float = 1.0\n" in (sw.iterate.__doc__ or "")


@pytest.mark.parametrize("function", [sw.Stream.map, sw.Stream.filter, sw.Stream.flat_map, sw.Stream.map_batches, sw.imap])
def test_help_shows_the_options_of_a_handler(function: Any) -> None:
    assert {*inspect.signature(function).parameters} >= {*HANDLER_OPTION_NAMES}
    assert "\n    retries: int = 0\n" in function.__doc__


def test_results_of_imap_come_in_order_unless_it_is_told_otherwise() -> None:
    assert inspect.signature(sw.imap).parameters["ordered"].default is True
    assert inspect.signature(sw.Stream.map).parameters["ordered"].default is False
