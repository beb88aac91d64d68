"""Serves the page of one run, from before its beginning until behind its end.

Decides what is opened when, and that nothing of it outlives the run, however that ends.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ...nodes.connectors.extras import need
from ..interpreter.forks import OwnerProcess
from ..page_settings import Page
from .sampler import Observed, Sampler

if TYPE_CHECKING:
    from .server import PageServer

_LOG = logging.getLogger("sluiceway")


class Serving:
    """A context around a run, in which its page is served. Takes its port when it is made.

    Raises `GraphError` for a port that is taken, and where the extra is missing.
    """

    def __init__(self, page: Page, stall_s: float) -> None:
        for module in ("starlette", "uvicorn", "prometheus_client"):
            need(module, "page", "the page of a run (serve=)")
        from .server import Listener

        self._page = page
        self._stall_s = stall_s
        self._listener = Listener(page)
        self._run: Observed | None = None
        self._sampler: Sampler | None = None
        self._server: PageServer | None = None
        self._owner = OwnerProcess()

    def of(self, run: Observed) -> Self:
        """Set which run is served, and return the context."""
        self._run = run
        return self

    def close(self) -> None:
        """Free the port, where the run does not begin."""
        self._listener.close()

    def __enter__(self) -> Self:
        from .access import Access
        from .app import make_app
        from .server import PageServer

        assert self._run is not None
        try:
            sampler = self._sampler = Sampler(self._run, self._stall_s)
            app = make_app(Access(self._page.token), sampler, self._run.plan.picture().drawing())
            self._server = PageServer(app, self._listener)
            _LOG.info("graph %r shows its page at %s", self._run.name, self._listener.url)
            self._call_opened()
        except BaseException:
            self._end(linger_s=0.0)
            raise
        return self

    def _call_opened(self) -> None:
        """Tell the address to who asked for it; what that raises is logged, for a run does not fail for who watches it."""
        if self._page.opened is not None:
            try:
                self._page.opened(self._listener.url)
            except Exception:
                _LOG.warning("the function given as opened= for the page raised", exc_info=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if not self._owner.is_forked():  # a fork of the caller leaves the page alone
            ended_itself = kind is None or issubclass(kind, Exception)
            self._end(self._page.linger_s if ended_itself else 0.0)

    def _end(self, linger_s: float) -> None:
        """Show the ended run for some seconds, or until Ctrl-C, and end the threads."""
        try:
            if self._sampler is not None:
                self._sampler.close()
            if self._server is not None and linger_s:
                with suppress(KeyboardInterrupt):
                    threading.Event().wait(linger_s)
        finally:
            if self._server is not None:
                self._server.close()
            self._listener.close()
