"""Firebase Cloud Messaging, HTTP v1: Android devices with Google's services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from msgspec import Struct

from grid.node.fleet.push import Gone, PushRefused, Told, jwt
from grid.wire.flaas import Fcm
from grid.wire.problems import BadRequest

GOOGLE = "https://fcm.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
HOUR = 3600
EARLY = 60
"""Seconds before its end from which on a token is not used any more."""
ANSWER = 64 * 1024


class ServiceAccount(Struct, frozen=True):
    """What the file of a service account says, as Google's console gives it."""

    project_id: str
    client_email: str
    private_key_id: str
    private_key: str
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address


class _Token(Struct, frozen=True):
    access_token: str
    expires_in: float = HOUR


class FcmDriver:
    """Sends data messages as a service `account`; `at` is where Google answers."""

    def __init__(
        self, http: aiohttp.ClientSession, account: ServiceAccount, now: Callable[[], float], at: str = GOOGLE
    ) -> None:
        key = serialization.load_pem_private_key(account.private_key.encode(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise BadRequest("the key of a service account is an RSA key")
        self._http, self._account, self._now, self._at, self._key = http, account, now, at, key
        self._token, self._until, self._one = "", 0.0, asyncio.Lock()

    async def send(self, to: Fcm, told: Told, lives: float) -> None:
        """As `push.Driver.send`; data messages are text to text."""
        data = {name: str(value) for name, value in told.items()}
        android = {"priority": "high", "ttl": f"{max(0, int(lives))}s"}
        message = {"message": {"token": to.token, "data": data, "android": android}}
        url = f"{self._at}/v1/projects/{self._account.project_id}/messages:send"
        headers = {"Authorization": f"Bearer {await self._bearer()}"}
        async with self._http.post(url, json=message, headers=headers, allow_redirects=False) as answer:
            if answer.status == 404:
                raise Gone
            if answer.status == 401:
                self._until = 0.0
            if answer.status != 200:
                raise PushRefused(f"Firebase answers {answer.status}")

    async def _bearer(self) -> str:
        async with self._one:
            if self._now() > self._until - EARLY:
                found = await self._fetch()
                self._token, self._until = found.access_token, self._now() + found.expires_in
            return self._token

    async def _fetch(self) -> _Token:
        """An access token for the service account (RFC 7523)."""
        account, now = self._account, int(self._now())
        header = {"alg": "RS256", "typ": "JWT", "kid": account.private_key_id}
        claims = {"iss": account.client_email, "scope": SCOPE, "aud": account.token_uri, "iat": now, "exp": now + HOUR}
        form = {"grant_type": GRANT, "assertion": jwt(header, claims, self._sign)}
        async with self._http.post(account.token_uri, data=form, allow_redirects=False) as answer:
            said = await answer.content.read(ANSWER)
            if answer.status != 200:
                raise PushRefused(f"{account.token_uri} gives no token: {answer.status}")
        try:
            return msgspec.json.decode(said, type=_Token)
        except msgspec.DecodeError as error:
            raise PushRefused(f"{account.token_uri} gives no token: {error}") from None

    def _sign(self, said: bytes) -> bytes:
        return self._key.sign(said, padding.PKCS1v15(), hashes.SHA256())


def service_account(path: Path) -> ServiceAccount:
    """A service account from its file. Raises BadRequest."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServiceAccount)
    except (OSError, msgspec.DecodeError) as error:
        raise BadRequest(f"{path} is no file of a service account: {error}") from None
