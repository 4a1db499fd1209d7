"""Certificates of revocation: signed in advance or at once, and kept apart from the key that they revoke."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from grid.crypto.identity import Identity
from grid.protocol.documents import sign_document
from grid.protocol.pins import spelled
from grid.protocol.transparency import read_revocation
from grid.wire.documents import Signed
from grid.wire.log import REVOCATION, Revocation
from grid.wire.problems import BadRequest


def check(save: Path | None, gateways: tuple[str, ...]) -> None:
    """One of two: written to a file for later, or handed in now."""
    if (save is None) == (not gateways):
        raise click.UsageError("give --gateway to revoke the key now, or --save to write a certificate for later")


def save(signed: Signed, file: Path) -> None:
    """Keep a certificate in a file that nobody else can read."""
    file.write_bytes(msgspec.json.encode(signed))
    file.chmod(0o600)
    click.echo(f"whoever has {file} can revoke {spelled(signed.signer)}")


def sign(identity: Identity, reason: str) -> Signed:
    """The revocation of a key at its own word."""
    return sign_document(identity, REVOCATION, Revocation(identity.id, time.time(), reason))


def read(file: Path) -> Signed:
    """A certificate that was kept in a file. Raises BadRequest, BadSignature."""
    try:
        signed = msgspec.json.decode(file.read_bytes(), type=Signed)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadRequest(f"{file} holds no certificate: {error}") from None
    read_revocation(signed)
    return signed
