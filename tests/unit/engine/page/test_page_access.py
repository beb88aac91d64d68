"""Which requests the page refuses before it looks at them."""

from __future__ import annotations

import pytest
from sluiceway.engine.page.access import COOKIE, Access

TOKEN = "a-token-of-some-length"
HERE = [(b"host", b"127.0.0.1:8077")]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9", "localhost:8077", "LOCALHOST", "[::1]:8077", "[::1]", "127.8.8.8"])
def test_names_of_this_machine_pass(host: str) -> None:
    assert Access(None).judge("GET", "/health", b"", [(b"Host", host.encode())]) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8077", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "[::2]:1",
             "[", "]", "127.0.0.1@evil.example", "0.0.0.0"],
)  # fmt: skip
def test_other_names_do_not(host: str) -> None:
    answer = Access(None).judge("GET", "/", b"", [(b"host", host.encode())])
    assert answer is not None
    assert answer.status == 403


def test_no_host_and_two_hosts_do_not() -> None:
    assert Access(None).judge("GET", "/", b"", []) is not None
    assert Access(None).judge("GET", "/", b"", [*HERE, *HERE]) is not None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "get"])
def test_only_reading_is_allowed(method: str) -> None:
    answer = Access(None).judge(method, "/health", b"", HERE)
    assert answer is not None
    assert answer.status == 405


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", b"Basic " + TOKEN.encode())],
        [(b"authorization", TOKEN.encode())],
        [(b"authorization", b"Bearer " + TOKEN.encode() + b"x")],
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"authorization", b"Bearer " + TOKEN.encode())] * 2,
        [(b"cookie", COOKIE.encode() + b"=" + TOKEN.encode())],
        [(b"cookie", COOKIE.encode() + b"=")],
        [(b"cookie", b"\xff=\xff; ;;=;" + COOKIE.encode())],
    ],
)
def test_a_wrong_token_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    for path in ("/", "/metrics", "/health"):
        answer = Access(TOKEN).judge("GET", path, b"", [*HERE, *headers])
        assert answer is not None
        assert answer.status == 401
        assert TOKEN not in answer.text


def test_the_right_token_passes_under_any_name() -> None:
    told = [(b"authorization", b"bearer " + TOKEN.encode()), (b"host", b"runs.example")]
    assert Access(TOKEN).judge("GET", "/metrics", b"", told) is None


def test_the_first_visit_gets_a_cookie_that_does_not_hold_the_token() -> None:
    access = Access(TOKEN)
    answer = access.judge("GET", "/", f"token={TOKEN}".encode(), HERE)
    assert answer is not None
    headers = dict(answer.headers)
    assert (answer.status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert access.judge("GET", "/metrics", b"", [(b"cookie", cookie.partition(";")[0].encode())]) is None
    assert Access(TOKEN + "2").judge("GET", "/metrics", b"", [(b"cookie", cookie.partition(";")[0].encode())]) is not None


@pytest.mark.parametrize("query", [b"token=", b"token=x&token=" + TOKEN.encode(), b"&" * 5000, b"\xff\xfe", b"token=%ff"])
def test_a_wrong_query_gets_none(query: bytes) -> None:
    answer = Access(TOKEN).judge("GET", "/", query, HERE)
    assert answer is not None
    assert answer.status == 401
