"""Errors as answers: RFC 9457 documents with the status that the error declares."""

from __future__ import annotations

import math

from aiohttp import web

from grid.wire.endpoint import Who
from grid.wire.message import encode
from grid.wire.problems import GridError, NotAuthenticated, to_problem

PROBLEM = "application/problem+json"
BASIC = 'Basic realm="grid", charset="UTF-8"'


def problem(error: GridError, who: Who = "signed") -> web.Response:
    """The answer that says `error` to who may call; the client raises the same class from it."""
    headers = {"Content-Type": PROBLEM, "Server": "grid"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status == NotAuthenticated.status:
        headers["WWW-Authenticate"] = BASIC if who == "account" else "Session, Signature, Bearer"
    return web.Response(body=encode(to_problem(error)), status=error.status, headers=headers)
