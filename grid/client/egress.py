"""Where a connection may go. Addresses come from strangers, who must not reach inside through us (SSRF).

An address is judged twice: as it is written, to refuse early with the reason; and as the IP that the
socket is about to connect to, which neither a DNS answer nor an odd spelling gets round. The name is
resolved once and the connection goes to what was checked; redirects are never followed (see `calls`).
"""

from __future__ import annotations

import socket
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from grid.wire.problems import AddressRefused

Ip = IPv4Address | IPv6Address

_NAT64 = ip_network("64:ff9b::/96")
_METADATA = frozenset(map(ip_address, ("169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
"""Where clouds hand their secrets to whatever runs there; not all of them are link-local."""


LOCAL = "http://localhost"
"""The address to write on a connection of `open_local`."""

KEPT = 8.0
"""Seconds for which an idle connection is kept."""


PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds of quiet before the kernel asks whether a line still leads anywhere, between such questions, and how many of
them may go unanswered: a dead line is found out within a minute."""


class Blocked(OSError):
    """A connection that policy forbids, as the connector meets it."""


class Egress:
    """The policy: public addresses always, private and loopback ones with `allow_private`.

    Link-local, metadata, multicast and reserved addresses are refused in any case.
    """

    def __init__(self, allow_private: bool) -> None:
        self.allow_private = allow_private

    def check(self, address: str) -> None:
        """Refuse an address that is wrong as it is written. A name may still resolve to a forbidden IP.

        Raises:
            AddressRefused: not http(s), or with credentials, or naming a forbidden IP.
        """
        host = _host(address)
        ip = _literal(host)
        if ip is not None:
            self._refuse(self._objection(ip))
        elif host == "localhost" or host.endswith(".localhost"):
            self._refuse(self._objection(IPv4Address("127.0.0.1")))

    def connector(self, **options: Any) -> aiohttp.TCPConnector:
        """A connector that connects nowhere else; `options` are those of aiohttp."""
        return aiohttp.TCPConnector(socket_factory=self._socket, **options)

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, where = info
        if self._objection(ip_address(where[0])):
            raise Blocked("policy forbids connections there")  # one text for all, or the connector hides the class
        made = socket.socket(family, kind, protocol)
        probe(made)
        return made

    @staticmethod
    def _refuse(objection: str) -> None:
        if objection:
            raise AddressRefused(objection)

    def _objection(self, ip: Ip) -> str:
        """Why not; empty where nothing speaks against it."""
        for each in _meanings(ip):
            if each in _METADATA or each.is_link_local:
                return f"{ip} is link-local or a metadata service"
            if each.is_multicast or each.is_unspecified or _is_reserved(each):
                return f"{ip} is no address of one machine"
            if not self.allow_private and not each.is_global:
                return f"{ip} is not public; `--allow-private` allows it"
        return ""


def open_http(
    egress: Egress, *, limit: int = 256, per_host: int = 32, tls: ssl.SSLContext | None = None
) -> aiohttp.ClientSession:
    """A pool of connections under a policy: no cookies, no proxies from the environment, no decompression.

    `limit` connections in all, `per_host` to one host. Close it when done; call it with the loop running.
    """
    # Shorter than the 15 s for which daemons keep idle connections, or a request may meet a closing one.
    connector = egress.connector(limit=limit, limit_per_host=per_host, keepalive_timeout=KEPT, ssl=tls or True)
    return _session(connector)


def open_local(socket: str) -> aiohttp.ClientSession:
    """Connections to the one daemon that answers on a socket of this machine, whatever the address says."""
    return _session(aiohttp.UnixConnector(socket, limit=0, keepalive_timeout=KEPT))


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"User-Agent": "grid", "Accept-Encoding": "identity"},
    )


def probe(line: socket.socket) -> None:
    """Let the kernel find out whether this TCP line is dead while nobody says anything, as on a long-poll.

    It keeps what is between both ends from forgetting the line, and wakes no process for that.
    """
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if option := getattr(socket, name, None):  # not every system has all of them
            line.setsockopt(socket.IPPROTO_TCP, option, value)


def _host(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port  # a port that is none raises too
    except ValueError as error:
        raise AddressRefused(f"not an address: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise AddressRefused("an address begins with http:// or https:// and names a host")
    if "@" in parts.netloc or parts.query or parts.fragment or "\\" in address:
        raise AddressRefused("an address has no credentials, query or fragment")
    return host.rstrip(".").lower()


def _literal(host: str) -> Ip | None:
    """The IP that a host spells, in any way that a resolver would take: 127.1 and 0x7f000001 too."""
    try:
        if ":" in host:
            return IPv6Address(host)
        return IPv4Address(socket.inet_aton(host)) if host.isascii() else None
    except (OSError, ValueError):  # ValueError: a null character too
        return None


def _meanings(ip: Ip) -> tuple[Ip, ...]:
    """The address, and the IPv4 address it may be translated to on its way."""
    if isinstance(ip, IPv4Address):
        return (ip,)
    inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    if ip in _NAT64:
        inner = IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.ipv4_mapped:
        return (ip.ipv4_mapped,)
    return (ip, inner) if inner else (ip,)


def _is_reserved(ip: Ip) -> bool:
    return isinstance(ip, IPv4Address) and ip.is_reserved  # Python calls ::1 reserved too
