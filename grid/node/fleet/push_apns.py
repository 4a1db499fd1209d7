"""Apple's Push Notification service, which speaks HTTP/2 alone: iOS devices."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from msgspec import Struct

from grid.node.fleet.push import Gone, PushRefused, Told, jwt
from grid.wire.flaas import Apns
from grid.wire.problems import BadRequest

APPLE = ("api.push.apple.com", 443)
SANDBOX = ("api.sandbox.push.apple.com", 443)
TOKEN = 2400.0
"""Seconds for which a token is used: Apple wants a new one between 20 and 60 minutes."""
BLOCK = 64 * 1024
GONE = frozenset({"BadDeviceToken", "Unregistered", "DeviceTokenNotForTopic"})


class ApnsKey(Struct, frozen=True):
    """The `key` (PEM) that Apple gave a `team` under `key_id`; `topic` is the app's bundle id."""

    key: bytes
    key_id: str
    team: str
    topic: str


class ApnsDriver:
    """Sends silent notifications, one after the other on one connection; `tls` None: unencrypted, for tests alone."""

    def __init__(
        self,
        key: ApnsKey,
        now: Callable[[], float],
        at: tuple[str, int] = APPLE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        signer = serialization.load_pem_private_key(key.key, None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise BadRequest("Apple's keys are on an elliptic curve")
        self._key, self._signer, self._now, self._at, self._tls = key, signer, now, at, tls
        self._line: _Line | None = None
        self._token, self._since, self._one = "", 0.0, asyncio.Lock()

    async def send(self, to: Apns, told: Told, lives: float) -> None:
        """As `push.Driver.send`."""
        body = msgspec.json.encode({"aps": {"content-available": 1}, **told})
        headers = [
            (":method", "POST"),
            (":scheme", "https" if self._tls else "http"),
            (":authority", self._at[0]),
            (":path", f"/3/device/{to.token}"),
            ("authorization", f"bearer {self._bearer()}"),
            ("apns-topic", self._key.topic),
            ("apns-push-type", "background"),
            ("apns-priority", "5"),
            ("apns-expiration", str(int(self._now() + lives))),
        ]
        async with self._one:
            status, said = await self._exchange(headers, body)
        reason = _reason(said)
        if status == 410 or reason in GONE:
            raise Gone
        if status != 200:
            raise PushRefused(f"Apple answers {status} {reason}".rstrip())

    async def _exchange(self, headers: list[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        """On the line that there is; once more on a new one where it was closed meanwhile."""
        for attempt in range(2):
            line = self._line = self._line or await _connect(self._at, self._tls)
            try:
                return await line.exchange(headers, body)
            except (OSError, ProtocolError) as error:
                self.close()
                if attempt:
                    raise PushRefused(f"Apple's line broke: {error}") from None
            except BaseException:
                self.close()
                raise
        raise AssertionError

    def close(self) -> None:
        """Let go of the line."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _bearer(self) -> str:
        if not self._token or self._now() > self._since + TOKEN:
            header = {"alg": "ES256", "kid": self._key.key_id}
            self._since = self._now()
            self._token = jwt(header, {"iss": self._key.team, "iat": int(self._since)}, self._sign)
        return self._token

    def _sign(self, said: bytes) -> bytes:
        """ES256 (RFC 7518, 3.4): both numbers of the signature, 32 bytes each."""
        both = decode_dss_signature(self._signer.sign(said, ec.ECDSA(hashes.SHA256())))
        return b"".join(each.to_bytes(32, "big") for each in both)


class _Line:
    """One connection, and one request on it at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()

    async def exchange(self, headers: list[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, headers)
        self._h2.send_data(stream, body, end_stream=True)
        status, said = 0, b""
        while True:
            self._writer.write(self._h2.data_to_send())
            await self._writer.drain()
            data = await self._reader.read(BLOCK)
            if not data:
                raise ConnectionResetError("it was closed")
            for event in self._h2.receive_data(data):
                match event:
                    case ResponseReceived(stream_id=at) if at == stream:
                        status = _status(event)
                    case DataReceived(stream_id=at) if at == stream:
                        said = (said + event.data)[:BLOCK]
                        self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
                    case StreamEnded(stream_id=at) if at == stream:
                        return status, said
                    case StreamReset(stream_id=at) if at == stream:
                        raise ConnectionResetError("the stream was reset")
                    case ConnectionTerminated():
                        raise ConnectionResetError("the other side ends it")

    def close(self) -> None:
        self._writer.close()


def _status(event: ResponseReceived) -> int:
    """The status of an answer; h2 tells headers as text where `header_encoding` is set, and types them as either."""
    named = {str(name): str(value) for name, value in event.headers}
    return int(named.get(":status", "0"))


async def _connect(at: tuple[str, int], tls: ssl.SSLContext | None) -> _Line:
    return _Line(*await asyncio.open_connection(*at, ssl=tls))


def apple_tls() -> ssl.SSLContext:
    """TLS as Apple asks for it."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    return context


def read_key(path: Path) -> bytes:
    """A key from its file. Raises BadRequest."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRequest(f"the key for Apple's service cannot be read: {error}") from None


def _reason(said: bytes) -> str:
    try:
        return str(msgspec.json.decode(said, type=dict[str, object]).get("reason", ""))[:80] if said else ""
    except msgspec.DecodeError:
        return ""
