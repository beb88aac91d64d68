"""Worker names: from parts to text and back."""

from __future__ import annotations

import pytest
from sluiceway.nodes.dispatch.worker_name import WorkerName


def test_a_name_survives_its_text() -> None:
    assert str(WorkerName(2, 0, 5)) == "2.0.5"
    assert WorkerName.parse("2.0.5") == WorkerName(2, 0, 5)
    assert WorkerName.parse("12.34.56").index == 34


@pytest.mark.parametrize("text", ["", "source-0", "1.2", "1.2.3.4", "a.b.c"])
def test_another_text_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"values to unpack|invalid literal"):
        WorkerName.parse(text)
