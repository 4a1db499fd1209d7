"""Where no connection may go, however it is written."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import example, given
from hypothesis import strategies as st

from grid.client.calls import Calls
from grid.client.egress import PROBES, Egress, open_http
from grid.wire.problems import AddressRefused, GridError, Unreachable
from grid.wire.session import IDENTITY

INSIDE = [
    "http://127.0.0.1",
    "http://127.1:5000",
    "http://2130706433",
    "http://0x7f000001",
    "http://0177.0.0.1",
    "http://localhost:80",
    "http://LocalHost.",
    "http://x.localhost",
    "http://10.0.0.1",
    "http://192.168.1.1",
    "http://172.16.0.1",
    "http://100.64.0.1",
    "http://[::1]",
    "http://[fd00::1]",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:10.0.0.1]",
    "http://[64:ff9b::7f00:1]",
    "http://[2002:7f00:1::]",
]
NEVER = [
    "http://169.254.169.254/latest",
    "http://[::ffff:169.254.169.254]",
    "http://[fe80::1]",
    "http://[fd00:ec2::254]",
    "http://100.100.100.200",
    "http://0.0.0.0",
    "http://0",
    "http://[::]",
    "http://224.0.0.1",
    "http://255.255.255.255",
    "http://[ff02::1]",
    "http://2852039166",
    "ftp://example.org",
    "gopher://example.org",
    "//example.org",
    "example.org",
    "",
    "http://",
    "http://user:secret@example.org",
    "http://user@10.0.0.1",
    "http://example.org@10.0.0.1",
    "http://example.org:99999",
    "http://example.org:x",
    "http://[::1",
    "http://example.org\\@10.0.0.1",
    "http://example.org?x",
    "http://example.org#x",
]


@pytest.mark.parametrize("address", INSIDE)
def test_the_inside_is_refused_unless_allowed(address: str) -> None:
    Egress(allow_private=True).check(address)
    with pytest.raises(AddressRefused):
        Egress(allow_private=False).check(address)


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_called(address: str) -> None:
    with pytest.raises(AddressRefused):
        Egress(allow_private=True).check(address)


@pytest.mark.parametrize(
    "address", ["http://example.org", "https://example.org:5001/prefix", "http://[2606:4700::1]:80"]
)
def test_the_public_is_allowed(address: str) -> None:
    Egress(allow_private=False).check(address)


@example("HTTP://\x00")
@given(st.text(max_size=60) | st.builds("http://{}".format, st.text(max_size=40)))
def test_no_address_breaks_the_check(address: str) -> None:
    with suppress(AddressRefused):
        Egress(allow_private=False).check(address)


class Rebinding(AbstractResolver):
    """A DNS server that tells a public address first, and another one from then on."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        found = self.answers
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=socket.AF_INET, proto=0, flags=0) for ip in found
        ]

    async def close(self) -> None: ...


@pytest.fixture
async def inside() -> AsyncIterator[int]:
    """A port on loopback where something answers that must not be reached."""
    reached: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: reached.append(writer), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    assert not reached


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]"])
async def test_a_connection_is_judged_by_the_ip_it_goes_to(inside: int, host: str) -> None:
    async with open_http(Egress(allow_private=False)) as http:
        with pytest.raises((AddressRefused, Unreachable)):  # aiohttp has objections of its own to 2130706433
            await Calls(http).call(f"http://{host}:{inside}", IDENTITY)


@pytest.mark.parametrize("answers", [("127.0.0.1",), ("127.0.0.1", "169.254.169.254")])
async def test_a_public_name_for_an_inner_address_gets_nowhere(inside: int, answers: tuple[str, ...]) -> None:
    egress, resolver = Egress(allow_private=False), Rebinding(*answers)
    address = f"http://harmless.example:{inside}"
    egress.check(address)

    async with aiohttp.ClientSession(connector=egress.connector(resolver=resolver)) as http:
        with pytest.raises(AddressRefused):
            await Calls(http).call(address, IDENTITY)

    assert resolver.asked == 1


async def test_metadata_is_out_of_reach_even_where_the_inside_is_not() -> None:
    async with open_http(Egress(allow_private=True)) as http:
        with pytest.raises(GridError) as refused:
            await Calls(http).call("http://169.254.169.254", IDENTITY)

    assert type(refused.value) is AddressRefused


def test_a_line_that_is_quiet_is_looked_after() -> None:
    """Else a long-poll would wait for an hour on a line that whatever stands between has forgotten."""
    info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))
    with Egress(allow_private=True)._socket(info) as line:
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert [line.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in PROBES] == [30, 10, 3]
