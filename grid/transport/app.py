"""An application from endpoints and handlers. One wrapper round each handler does what all calls share.

It is a wrapper and no chain of middlewares because every call pays for it: it proves the caller,
counts, times, and turns errors into problem documents. What an endpoint needs is looked up once, here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from time import perf_counter
from typing import Any

from aiohttp import web

from grid.crypto.session import EMPTY_BODY, SEALED_BODY
from grid.transport.auth import ANONYMOUS, Authenticator, Caller
from grid.transport.body import BODY, METRICS, no_welcome_yet, whole
from grid.transport.logs import begin_request, request_id
from grid.transport.metrics import GONE, Count, Metrics
from grid.transport.problems import problem
from grid.wire.endpoint import Endpoint
from grid.wire.message import encode
from grid.wire.openapi import document
from grid.wire.problems import Draining, GridError, MethodNotAllowed, NotAllowed, NotAuthenticated, NotFound
from grid.wire.session import HEALTH

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Routes = Mapping[Endpoint[Any, Any], Handler]

CALLER = web.RequestKey("caller", Caller)
OPENAPI: Endpoint[None, dict[str, Any]] = Endpoint(
    "GET", "/openapi.json", gives=dict[str, Any], about="This description"
)
METRICS_PAGE: Endpoint[None, None] = Endpoint("GET", "/metrics", about="Figures for Prometheus")

log = logging.getLogger(__name__)


class Gate:
    """Whether the daemon still takes work, and how much of it is under way."""

    def __init__(self) -> None:
        self.draining = False
        self._inside = 0
        self._empty = asyncio.Event()

    def enter(self, always: bool) -> None:
        """One request more is under way. Raises Draining unless it is `always` answered."""
        self._inside += 1
        if self.draining and not always:
            raise Draining(retry_after=5.0)

    def leave(self) -> None:
        """One request less is under way."""
        self._inside -= 1
        if self.draining and not self._inside:
            self._empty.set()

    async def drain(self) -> None:
        """Take no more work; return when none is under way."""
        self.draining = True
        if self._inside:
            await self._empty.wait()


GATE = web.AppKey("gate", Gate)


def create_app(routes: Routes, *, auth: Authenticator, metrics: Metrics, about: str) -> web.Application:
    """The application that answers `routes`, `/openapi.json` (titled `about`) and `/metrics`.

    Handlers find their caller in `request[CALLER]`. Those that raise a `GridError` answer with its problem.
    """
    app = web.Application()
    app[GATE], app[METRICS] = Gate(), metrics
    metrics.gauge("grid_sessions", "Open sessions", lambda: len(auth))
    routes = {**routes, OPENAPI: _openapi(routes, about), METRICS_PAGE: _metrics_page(metrics)}
    for endpoint, handler in routes.items():
        respond = _respond(endpoint, handler, app[GATE], auth, metrics.endpoint(endpoint.method, endpoint.path))
        for path in _spellings(endpoint.path):
            app.router.add_route(endpoint.method, path, respond, expect_handler=no_welcome_yet)
    app.router.add_route("*", "/{tail:.*}", _unmatched(app.router, metrics.endpoint("*", "*")))
    return app


def _spellings(path: str) -> tuple[str, ...]:
    # The grid RFC's nodes call `/identity/` and `/status/`.
    return (path,) if path == "/" or path.startswith("/v1/") or "." in path else (path, path + "/")


def _respond(endpoint: Endpoint[Any, Any], handler: Handler, gate: Gate, auth: Authenticator, count: Count) -> Handler:
    always = endpoint in (HEALTH, METRICS_PAGE)
    admit = _admission(endpoint, auth)

    async def respond(request: web.Request) -> web.StreamResponse:
        started = perf_counter()
        count.begin()
        begin_request()
        status = GridError.status
        try:
            gate.enter(always)
            await admit(request)
            response = await handler(request)
            status = response.status
        except GridError as error:
            status = error.status
            return problem(error, endpoint.who)
        except (asyncio.CancelledError, ConnectionError):
            status = GONE
            raise
        except Exception:
            log.exception("%s %s failed", endpoint.method, endpoint.path)
            return problem(GridError(f"the log of this daemon says more about request {request_id()}"))
        finally:
            gate.leave()
            count.end(status, perf_counter() - started)
        return response

    return respond


def _admission(endpoint: Endpoint[Any, Any], auth: Authenticator) -> Callable[[web.Request], Awaitable[None]]:
    """What must hold before a handler is called: the body of a message is here, and the caller is who may call."""
    takes_message = not endpoint.streams_in and endpoint.takes is not type(None)
    no_message = SEALED_BODY if endpoint.streams_in else EMPTY_BODY
    who, right = endpoint.who, endpoint.right

    async def admit(request: web.Request) -> None:
        header = request.headers.get("Authorization")
        if header is None and (token := request.headers.get("token")) is not None:  # so PyGrid's clients send it
            header = f"Bearer {token}"
        if header is None and (who != "anyone" or right is not None):
            raise NotAuthenticated
        digest = no_message
        if takes_message:
            body = request[BODY] = await whole(request, endpoint)
            digest = sha256(body).digest() if header else digest
        if who == "account" and header:
            caller = await auth.account(header)
        else:
            caller = auth.caller(header, request.method, request.raw_path, digest) if header else ANONYMOUS
        if who == "owner" and not caller.owner:
            raise NotAllowed("only the owner may do that")
        if right is not None and not caller.has(right):
            raise NotAllowed(f"only accounts whose role lets them {right.replace('-', ' ')} may do that")
        request[CALLER] = caller

    return admit


def _unmatched(router: web.UrlDispatcher, count: Count) -> Handler:
    async def unmatched(request: web.Request) -> web.StreamResponse:
        allowed: set[str] = set()
        for resource in router.resources():
            if resource.canonical != "/{tail}":
                allowed |= (await resource.resolve(request))[1]
        error = MethodNotAllowed(f"{', '.join(sorted(allowed))} is taken") if allowed else NotFound()
        count.begin()
        count.end(error.status, 0.0)
        response = problem(error)
        if allowed:
            response.headers["Allow"] = ", ".join(sorted(allowed))
        return response

    return unmatched


def _openapi(routes: Routes, about: str) -> Handler:
    made: list[bytes] = []

    async def openapi(_: web.Request) -> web.StreamResponse:
        if not made:  # seldom asked for, and dear to make
            made.append(encode(document((*routes, OPENAPI), about)))
        return web.Response(body=made[0], content_type="application/json")

    return openapi


def _metrics_page(metrics: Metrics) -> Handler:
    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    return page
