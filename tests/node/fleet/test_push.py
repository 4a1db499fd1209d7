"""L5: devices are woken by three push services, each a small fake on this machine; and who is not woken."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import http_ece
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from grid.cli.fleets import push_settings
from grid.client.egress import Egress
from grid.node.fleet.push import Gone, PushRefused
from grid.node.fleet.push_apns import ApnsDriver, ApnsKey
from grid.node.fleet.push_fcm import FcmDriver, ServiceAccount
from grid.node.fleet.push_web import WebDriver, load_key
from grid.transport.serve import running
from grid.wire.flaas import Apns, Fcm, WebPush
from grid.wire.problems import AddressRefused, BadRequest

TOLD = {"type": "train", "project": 1, "round": 0}
NOW = 1_800_000_000.0


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def raw(said: str) -> bytes:
    return base64.urlsafe_b64decode(said + "=" * (-len(said) % 4))


def pem(key: Any) -> bytes:
    made: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made


def es256(token: str, key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    """The claims of a token, proved."""
    said, _, signature = token.rpartition(".")
    r, s = (int.from_bytes(raw(signature)[at : at + 32], "big") for at in (0, 32))
    key.verify(encode_dss_signature(r, s), said.encode(), ec.ECDSA(hashes.SHA256()))
    claims: dict[str, Any] = json.loads(raw(said.split(".")[1]))
    return claims


# --- Web Push -------------------------------------------------------------------------------------


class Browser:
    """A subscription, and the push service behind it, which answers with `status`."""

    def __init__(self) -> None:
        self.key, self.secret = ec.generate_private_key(ec.SECP256R1()), b"s" * 16
        self.status, self.heard = 201, list[tuple[dict[str, str], bytes]]()

    def subscription(self, address: str) -> WebPush:
        point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return WebPush(f"{address}/send/1?which=2", text(point), text(self.secret))

    def app(self) -> web.Application:
        async def send(request: web.Request) -> web.Response:
            self.heard.append((dict(request.headers), await request.read()))
            return web.Response(status=self.status, headers={"Location": "http://169.254.169.254/"})

        app = web.Application()
        app.router.add_post("/send/1", send)
        return app

    def opened(self) -> Any:
        return json.loads(http_ece.decrypt(self.heard[-1][1], private_key=self.key, auth_secret=self.secret))


@pytest.fixture
def web_driver(connections: aiohttp.ClientSession, tmp_path: Path) -> WebDriver:
    key = load_key(tmp_path / "push.pem")
    return WebDriver(connections, Egress(allow_private=True), key, "mailto:ops@example.org", lambda: NOW)


async def test_l5_web_push_is_encrypted_for_the_subscription_and_signed_by_the_node(web_driver: WebDriver) -> None:
    browser = Browser()
    async with running(browser.app()) as address:
        await web_driver.send(browser.subscription(address), TOLD, 3600.0)

        headers, sealed = browser.heard[0]
        assert b"train" not in sealed
        assert browser.opened() == TOLD
        assert (headers["TTL"], headers["Content-Encoding"]) == ("3600", "aes128gcm")
        token = headers["Authorization"].split("t=")[1].split(",")[0]
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw(web_driver.public))
        assert es256(token, public) == {
            "aud": address,
            "exp": int(NOW) + 43_200,
            "sub": "mailto:ops@example.org",
        }


async def test_a_subscription_that_has_ended_is_gone_and_a_redirect_is_not_followed(web_driver: WebDriver) -> None:
    browser = Browser()
    async with running(browser.app()) as address:
        to = browser.subscription(address)
        for status in (404, 410):
            browser.status = status
            with pytest.raises(Gone):
                await web_driver.send(to, TOLD, 1.0)
        for status in (302, 429, 500):
            browser.status = status
            with pytest.raises(PushRefused, match=str(status)):
                await web_driver.send(to, TOLD, 1.0)
    for broken in (WebPush(to.endpoint, "AAAA", to.auth), WebPush(to.endpoint, "", to.auth)):
        with pytest.raises(Gone):
            await web_driver.send(broken, TOLD, 1.0)


async def test_a_subscription_leads_nowhere_inside(web_driver: WebDriver) -> None:
    with pytest.raises(AddressRefused):
        await web_driver.send(WebPush("http://169.254.169.254/latest", "AAAA", "AAAA"), TOLD, 1.0)


def test_the_key_for_web_push_stays_and_is_the_nodes_alone(tmp_path: Path) -> None:
    (tmp_path / "push.new").write_bytes(b"half of a k")
    keys = [load_key(tmp_path / "push.pem") for _ in range(2)]

    assert keys[0].public_key.public_numbers() == keys[1].public_key.public_numbers()
    assert (tmp_path / "push.pem").stat().st_mode & 0o777 == 0o600


# --- Firebase -------------------------------------------------------------------------------------

RSA = rsa.generate_private_key(65537, 2048)


class Google:
    """Firebase and the place that gives its tokens."""

    def __init__(self) -> None:
        self.status, self.sent, self.tokens = 200, list[Any](), 0

    def app(self) -> web.Application:
        async def token(request: web.Request) -> web.Response:
            form = await request.post()
            said, _, signature = str(form["assertion"]).rpartition(".")
            RSA.public_key().verify(raw(signature), said.encode(), padding.PKCS1v15(), hashes.SHA256())
            assert json.loads(raw(said.split(".")[1]))["iss"] == "node@example.org"
            self.tokens += 1
            return web.json_response(
                {"access_token": f"token-{self.tokens}", "expires_in": 3600, "token_type": "Bearer"}
            )

        async def send(request: web.Request) -> web.Response:
            self.sent.append((request.headers["Authorization"], await request.json()))
            return web.json_response({}, status=self.status)

        app = web.Application()
        app.router.add_post("/token", token)
        app.router.add_post("/v1/projects/phones/messages:send", send)
        return app


async def test_l5_firebase_gets_a_data_message_with_a_token_of_the_service_account(
    connections: aiohttp.ClientSession,
) -> None:
    google, now = Google(), [NOW]
    async with running(google.app()) as address:
        account = ServiceAccount("phones", "node@example.org", "k1", pem(RSA).decode(), f"{address}/token")
        driver = FcmDriver(connections, account, lambda: now[0], address)
        await asyncio.gather(*(driver.send(Fcm("device-token"), TOLD, 60.0) for _ in range(3)))
        assert google.tokens == 1
        assert google.sent[0] == (
            "Bearer token-1",
            {
                "message": {
                    "token": "device-token",
                    "data": {"type": "train", "project": "1", "round": "0"},
                    "android": {"priority": "high", "ttl": "60s"},
                }
            },
        )
        now[0] += 3600.0
        await driver.send(Fcm("device-token"), TOLD, 60.0)
        assert google.sent[-1][0] == "Bearer token-2"
        for status, error in ((404, Gone), (401, PushRefused), (503, PushRefused)):
            google.status = status
            with pytest.raises(error):
                await driver.send(Fcm("device-token"), TOLD, 60.0)
        assert google.tokens == 3  # the one that was not taken is not tried again


# --- Apple ----------------------------------------------------------------------------------------

KEY = ec.generate_private_key(ec.SECP256R1())
Answer = tuple[int, bytes]


class Apple:
    """Apple's service on HTTP/2, which gives these answers in turn; None: the line is cut."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers, self.heard = list(answers), list[tuple[dict[str, str], Any]]()
        self._serving = set[asyncio.Task[None]]()

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[tuple[str, int]]:
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()
            async with asyncio.timeout(10):
                await asyncio.gather(*self._serving)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        h2, streams = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8")), dict[int, Any]()
        h2.initiate_connection()
        try:
            while not writer.is_closing():
                writer.write(h2.data_to_send())
                if not (data := await reader.read(65536)):
                    return
                for event in h2.receive_data(data):
                    self._hear(h2, streams, event, writer)
        finally:
            writer.close()

    def _hear(self, h2: H2Connection, streams: dict[int, Any], event: Any, writer: asyncio.StreamWriter) -> None:
        if isinstance(event, RequestReceived):
            streams[event.stream_id] = ({str(n): str(v) for n, v in event.headers}, b"")
        elif isinstance(event, DataReceived):
            headers, body = streams[event.stream_id]
            streams[event.stream_id] = (headers, body + event.data)
        elif isinstance(event, StreamEnded):
            answer = self.answers.pop(0)
            if answer is None:
                writer.close()
                return
            headers, body = streams[event.stream_id]
            self.heard.append((headers, json.loads(body)))
            h2.send_headers(event.stream_id, [(":status", str(answer[0]))], end_stream=not answer[1])
            if answer[1]:
                h2.send_data(event.stream_id, answer[1], end_stream=True)


async def test_l5_apple_gets_a_silent_notification_over_one_line_of_http_2() -> None:
    token, gone = Apns("ab" * 32), b'{"reason":"BadDeviceToken"}'
    fake = Apple((200, b""), (200, b""), (410, b"{}"), (400, gone), (429, b'{"reason":"TooMany"}'))
    async with fake.answering() as at:
        driver = ApnsDriver(ApnsKey(pem(KEY), "K1", "TEAM", "org.example.app"), lambda: NOW, at)
        await driver.send(token, TOLD, 60.0)
        await driver.send(token, TOLD, 60.0)
        for _ in range(2):
            with pytest.raises(Gone):
                await driver.send(token, TOLD, 60.0)
        with pytest.raises(PushRefused, match="429 TooMany"):
            await driver.send(token, TOLD, 60.0)
        driver.close()

    headers, body = fake.heard[0]
    assert body == {"aps": {"content-available": 1}, **TOLD}
    assert headers[":path"] == f"/3/device/{'ab' * 32}"
    assert (headers["apns-topic"], headers["apns-push-type"]) == ("org.example.app", "background")
    assert headers["apns-expiration"] == str(int(NOW) + 60)
    said = headers["authorization"].removeprefix("bearer ")
    assert es256(said, KEY.public_key()) == {"iss": "TEAM", "iat": int(NOW)}


async def test_apples_line_is_made_anew_once_when_it_was_closed() -> None:
    fake = Apple((200, b""), None, (200, b""), None, None)
    async with fake.answering() as at:
        driver = ApnsDriver(ApnsKey(pem(KEY), "K1", "TEAM", "org.example.app"), lambda: NOW, at)
        for _ in range(2):
            await driver.send(Apns("ab" * 32), TOLD, 60.0)
        with pytest.raises(PushRefused, match="line broke"):
            await driver.send(Apns("ab" * 32), TOLD, 60.0)
    assert len(fake.heard) == 2


# --- settings -------------------------------------------------------------------------------------


def test_the_file_of_push_services_is_read_whole_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "push.toml"
    file.write_text('contact = "mailto:a@b.c"\n[fcm]\nservice-account = "x.json"\n')

    found = push_settings(file)
    assert found.contact == "mailto:a@b.c"
    assert found.fcm is not None
    assert found.fcm.service_account == "x.json"
    assert push_settings(None).fcm is None
    for wrong in ("contact = 1", "what = 2", "=", '[apns]\nkey = "k"\n'):
        file.write_text(wrong)
        with pytest.raises(BadRequest, match="push services"):
            push_settings(file)
