"""What a stranger posts to a webhook never ends the run: it is refused, or every sink of JSON can hold it."""

from __future__ import annotations

import http.client
import json
import logging
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw

STRUCTURED = {"Content-Type": "application/cloudevents+json"}
DEEPEST = b'{"a": ' + b"[" * 63 + b"]" * 63 + b"}"
REFUSED: list[tuple[bytes, dict[str, str]]] = [
    (b'{"a": ' + b"[" * 600 + b"]" * 600 + b"}", {}),
    (b"[" * 900_000, {}),
    (b'{"a":' * 100_000, {}),
    (b'{"a": NaN}', {}),
    (b'{"a": Infinity}', {}),
    (b'{"a": 1e999}', {}),
    (b'{"a": ' + b"1" * 400 + b".5}", {}),
    (b'{"a": 18446744073709551616}', {}),
    (b'{"a": ' + b"9" * 900_000 + b"}", {}),
    (b'{"a": "\\ud800"}', {}),
    (b'{"a": "\\u0000"}', {}),
    (b'{"a": 1, "a": 2}', {}),
    (b" " * (1 << 21), {}),
    (b"[" + b"{}," * 2000 + b"{}]", {}),
    (b'"text"', {}),
    (b"\x80\x81", {}),
    (b"", {}),
    (b"<a/>", {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/a", "ce-type": "t", "Content-Type": "text/xml"}),
    (b'{"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data_base64": "AA=="}', STRUCTURED),
    (b'{"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data": 1e999}', STRUCTURED),
]  # fmt: skip


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_stranger_posts_does_not_end_the_run(
    tmp_path: Path, journal: bool, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    graph = sw.Graph("taken")
    events = graph.source(sw.webhook(), journal=journal)
    events.map(_same).sink(sw.jsonl(tmp_path / "out.jsonl"))
    options: dict[str, Any] = {"workers": 1} if workers else {"runner": "inline"}
    if journal:
        options["checkpoint"] = tmp_path / "run.db"
    answers: list[int] = []
    failures: list[BaseException] = []
    sender = threading.Thread(target=_send, args=(caplog, answers, failures))
    sender.start()
    sw.run(graph, limit=3, time_limit_s=100, **options)
    sender.join()
    assert failures == []
    assert set(answers[: len(REFUSED)]) <= {400, 413, 415}
    assert answers[len(REFUSED) :] == [202, 202, 202]
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == [json.loads(DEEPEST), {"a": -(2**63)}, {"order": 7}]


def _same(event: Any) -> Any:
    return event


def _send(caplog: pytest.LogCaptureFixture, answers: list[int], failures: list[BaseException]) -> None:
    try:
        waited = threading.Event()
        while not (found := re.search(r"listens on http://([\d.]+):(\d+)", caplog.text)):
            waited.wait(0.01)
        taken = [DEEPEST, b'{"a": -9223372036854775808}', b'{"order": 7}']
        for body, headers in [*REFUSED, *((body, {}) for body in taken)]:
            connection = http.client.HTTPConnection(found[1], int(found[2]), timeout=60)
            connection.request("POST", "/", body, headers)
            answers.append(connection.getresponse().status)
            connection.close()
    except BaseException as error:
        failures.append(error)
        raise
