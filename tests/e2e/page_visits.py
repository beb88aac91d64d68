"""Requests to the page of a run that goes on."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import sluiceway as sw
from prometheus_client.parser import text_string_to_metric_families


class Visit:
    """A page whose address is known once it is served, and requests to it."""

    def __init__(self, address: int | str = "127.0.0.1:0", **settings: Any) -> None:
        self.page = sw.page(address, opened=self._open, **settings)
        self.opened = threading.Event()
        self.url = ""

    def _open(self, url: str) -> None:
        self.url = url
        self.opened.set()

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Return the status, the headers and the text of an answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read().decode()

    def verdict(self, path: str = "health") -> tuple[int, Any]:
        """Return the status and what is said of `health` or `ready`."""
        status, _, text = self.get(path)
        return status, json.loads(text)

    def metrics(self, **headers: str) -> dict[tuple[str, str], float]:
        """Return the value of each metric by its name and node ("" for the run), as a strict parser reads it."""
        status, _, text = self.get("metrics", **headers)
        assert status == 200
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                assert set(sample.labels) <= {"graph", "node"}
                key = sample.name, sample.labels.get("node", "")
                assert key not in found
                found[key] = sample.value
        return found

    def is_gone(self) -> bool:
        """Whether nobody answers any more."""
        try:
            self.get("health")
        except urllib.error.URLError:
            return True
        return False


def until(happens: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that the page is to show."""
    over = threading.Event()
    deadline = threading.Timer(seconds, over.set)
    deadline.start()
    try:
        while not happens():
            assert not over.wait(0.05), "it has not happened"
    finally:
        deadline.cancel()
