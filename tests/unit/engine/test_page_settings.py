"""Where a page is served, and when a token is needed."""

from __future__ import annotations

from typing import Any

import pytest
import sluiceway as sw
from sluiceway.engine.page_settings import TOKEN_VARIABLE, check_page

TOKEN = "a-token-of-some-length"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [(8077, "127.0.0.1", 8077), ("8077", "127.0.0.1", 8077), ("127.0.0.1:0", "127.0.0.1", 0), ("[::1]:5", "::1", 5),
     ("localhost:80", "localhost", 80)],
)  # fmt: skip
def test_addresses(value: Any, host: str, port: int) -> None:
    page = check_page("sw.run", "serve", value)
    assert (page.host, page.port, page.is_local) == (host, port, True)


@pytest.mark.parametrize(
    "value", [True, -1, 65536, 8077.0, "", "x", ":80", "127.0.0.1", "a b:80", "http://127.0.0.1:80", "::1:80", b"80"]
)
def test_what_is_no_address_is_refused(value: Any) -> None:
    graph = sw.Graph("g")
    graph.source([1]).sink(lambda event: None)
    with pytest.raises(sw.GraphError, match="cannot use serve="):
        sw.run(graph, serve=value)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "example.org:80", "10.0.0.1:80"])
def test_an_address_for_others_needs_a_token(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(sw.GraphError, match="without a token"):
        sw.page(address)
    assert sw.page(address, token=TOKEN).token == TOKEN
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert sw.page(address).token == TOKEN
    assert TOKEN not in repr(sw.page(address))


@pytest.mark.parametrize("token", ["", "short", "with spaces in the middle", "ünicode-is-not-sent-well", 5])
def test_a_token_that_can_be_guessed_or_not_sent_is_refused(token: Any) -> None:
    with pytest.raises(sw.GraphError, match="token"):
        sw.page(0, token=token)


@pytest.mark.parametrize("options", [{"linger_s": -1}, {"show_events": 1}, {"opened": 5}])
def test_other_settings_are_checked(options: Any) -> None:
    with pytest.raises(sw.GraphError):
        sw.page(0, **options)
