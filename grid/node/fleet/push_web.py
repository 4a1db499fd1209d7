"""Web Push: browsers and whatever else has a subscription (RFC 8030), encrypted for it (RFC 8291) by pywebpush."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02

from grid.client.egress import Egress
from grid.node.fleet.push import Gone, PushRefused, Told, as_json
from grid.wire.flaas import WebPush

KNOWN_FOR = 12 * 3600
"""Seconds for which a push service believes one signature of ours; it takes 24 hours at most (RFC 8292, 2)."""


class WebDriver:
    """Sends to the address in a subscription, over connections that reach only where `egress` lets them.

    `key` is by what push services know this node (VAPID, RFC 8292); `contact` is whom they write to about it.
    """

    def __init__(
        self, http: aiohttp.ClientSession, egress: Egress, key: Vapid02, contact: str, now: Callable[[], float]
    ) -> None:
        self._http, self._egress, self._key, self._contact, self._now = http, egress, key, contact, now

    @property
    def public(self) -> str:
        """What browsers name when they subscribe: the public key, base64url."""
        point = self._key.public_key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return base64.urlsafe_b64encode(point).decode().rstrip("=")

    async def send(self, to: WebPush, told: Told, lives: float) -> None:
        """As `push.Driver.send`; the push service sees whom it is for, when, and how long it is."""
        parts = urlsplit(to.endpoint)
        origin = f"{parts.scheme}://{parts.netloc}"
        self._egress.check(origin)
        body = sealed(to, as_json(told))
        claims = {"aud": origin, "exp": int(self._now()) + KNOWN_FOR, "sub": self._contact}
        headers = {
            **self._key.sign(claims),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(max(0, int(lives))),
            "Urgency": "normal",
        }
        async with self._http.post(to.endpoint, data=body, headers=headers, allow_redirects=False) as answer:
            if answer.status in (404, 410):
                raise Gone
            if answer.status not in (200, 201, 202):
                raise PushRefused(f"{origin} answers {answer.status}")


def sealed(to: WebPush, message: bytes) -> bytes:
    """A message that only the holder of a subscription can read. Raises Gone: its keys are none."""
    from pywebpush import WebPusher, WebPushException  # brings another HTTP client, which takes long to load

    try:
        found: bytes = WebPusher({"endpoint": to.endpoint, "keys": {"p256dh": to.p256dh, "auth": to.auth}}).encode(
            message
        )["body"]
    except (WebPushException, ValueError, IndexError):
        raise Gone from None
    return found


def load_key(path: Path) -> Vapid02:
    """The node's key for Web Push, made when there is none; readable by its owner alone."""
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        beside = path.with_suffix(".new")  # a node that is killed here begins anew, with no half of a key
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made)
            os.fsync(file.fileno())
        beside.rename(path)
    return Vapid02.from_pem(path.read_bytes())
