"""The pages on connectors that need no server keep their word: examples run as typed and print what stands under them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import check_examples, read_page
from sluiceway.nodes.files.streams import compression


@pytest.mark.parametrize(("page", "count"), [("files", 2), ("http", 2), ("sql", 3)])
def test_the_examples_print_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], page: str, count: int
) -> None:
    monkeypatch.chdir(tmp_path)
    check_examples(page, count, capsys)


def test_the_sizes_are_those_of_the_page_on_files() -> None:
    assert "512 KiB for gzip, 900 kB for bzip2, 2 MiB for xz" in read_page("files")
    assert compression.MEMBER_BYTES == {".gz": 512 << 10, ".bz2": 900_000, ".xz": 2 << 20}


def test_events_are_sent_with_their_type() -> None:
    """Left to itself curl says of `-d` that it is a form, which a webhook refuses with 415."""
    lines = [line for line in read_page("http").splitlines() if line.lstrip().startswith("curl ")]
    assert lines
    assert [line for line in lines if "-H 'Content-Type: application/json'" not in line] == []
