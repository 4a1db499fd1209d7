from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from grid.client.egress import Egress
from grid.gateway.ask import HttpAsk, url_of

StartNode = Callable[..., Awaitable[str]]


class Names(AbstractResolver):
    """Says that every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
async def ask() -> AsyncIterator[HttpAsk]:
    async with HttpAsk(Egress(allow_private=True).connector(force_close=True)) as ask:
        yield ask


async def test_an_answer_comes_with_its_status_and_time(ask: HttpAsk, rfc_node: StartNode) -> None:
    node = await rfc_node("#x")

    answer = await ask("POST", url_of(f"{node}/", "/search"), b'{"query": ["#x"]}', deadline=2.0)
    missing = await ask("GET", url_of(node, "/nowhere"), deadline=2.0)

    assert answer
    assert (answer.status, answer.body) == (200, b'{"content": true}')
    assert 0 < answer.latency < 2
    assert missing
    assert missing.status == 404


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/search", "http://[::1", "http://no such host/", "http://127.0.0.1:0/", "http://" + "a" * 300],
)
async def test_no_answer_is_an_answer_too(url: str, ask: HttpAsk) -> None:
    assert await ask("GET", url, deadline=2.0) is None


async def test_a_name_that_leads_inside_is_not_followed_there(rfc_node: StartNode) -> None:
    url = (await rfc_node("#x")).replace("127.0.0.1", "innocent.example") + "/health-check"
    for private in (True, False):
        async with HttpAsk(Egress(private).connector(resolver=Names())) as ask:
            assert (await ask("GET", url, deadline=2.0) is not None) is private
