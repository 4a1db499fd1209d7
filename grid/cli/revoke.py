"""`grid-node revoke` and `rotate`: the node's key is declared lost, or gives its place to a new one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click
import msgspec

from grid.cli.daemon import alone
from grid.cli.desk import data_option
from grid.cli.plainly import word
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.protocol.documents import sign_document
from grid.protocol.pins import spelled
from grid.protocol.transparency import read_revocation
from grid.store.database import Database
from grid.store.keys import erase_prekeys
from grid.wire.documents import Signed
from grid.wire.log import REVOCATION, REVOKE_KEY, ROTATE_KEY, ROTATION, Revocation, Revoke, Rotate, Rotation
from grid.wire.names import Address
from grid.wire.problems import BadRequest

_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--save", type=_file, help="Only write the certificate to this file, to be kept apart from the key.")
@click.option("--certificate", type=_file, help="Hand in a certificate that was written before; needs no key.")
@click.option(
    "--gateway", type=word(Address, "url (http://HOST:PORT)"), multiple=True, help="Where to; may be repeated."
)
@click.option("--reason", default="", help="Why, for those who are refused.")
@data_option
def revoke(save: Path | None, certificate: Path | None, gateway: tuple[str, ...], reason: str, data: Path) -> None:
    """Revoke this node's key for good: nobody who follows the gateway's log believes it any more."""
    if (save is None) == (not gateway):
        raise click.UsageError("give --gateway to revoke the key now, or --save to write a certificate for later")
    signed = _read(certificate) if certificate else _sign(data, reason)
    if save:
        save.write_bytes(msgspec.json.encode(signed))
        save.chmod(0o600)
        click.echo(f"whoever has {save} can revoke {spelled(signed.signer)}")
        return
    asyncio.run(_hand_in(signed, gateway))


@click.command()
@click.option(
    "--gateway", type=word(Address, "url (http://HOST:PORT)"), multiple=True, required=True, help="Where it is listed."
)
@data_option
def rotate(gateway: tuple[str, ...], data: Path) -> None:
    """Put a new key in the place of this node's, which keeps its name. The node must not run."""
    with alone(data):
        old, new = Identity.load(data / "identity.key"), Identity.load_or_create(data / "identity.next")
        said = Rotation(old.id, new.id, time.time())
        signed = Rotate(sign_document(old, ROTATION, said), sign_document(new, ROTATION, said))
        asyncio.run(_put_in_place(signed, gateway, data))
        (data / "identity.next").replace(data / "identity.key")  # killed before this, it is done again with this key
    click.echo(f"{spelled(new.id)} is in the place of {spelled(old.id)}")


async def _put_in_place(signed: Rotate, gateways: tuple[str, ...], data: Path) -> None:
    async with open_http(Egress(allow_private=True)) as http:
        for gateway in gateways:
            await Calls(http).call(gateway, ROTATE_KEY, signed)
    async with Database(data / "node.db", "node") as database:  # what the old key published is nobody's now
        await database.write(lambda connection: erase_prekeys(connection, float("inf")))


def _sign(data: Path, reason: str) -> Signed:
    identity = Identity.load(data / "identity.key")
    return sign_document(identity, REVOCATION, Revocation(identity.id, time.time(), reason))


def _read(file: Path) -> Signed:
    try:
        signed = msgspec.json.decode(file.read_bytes(), type=Signed)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadRequest(f"{file} holds no certificate: {error}") from None
    read_revocation(signed)
    return signed


async def _hand_in(signed: Signed, gateways: tuple[str, ...]) -> None:
    async with open_http(Egress(allow_private=True)) as http:
        for gateway in gateways:
            logged = await Calls(http).call(gateway, REVOKE_KEY, Revoke(signed))
            click.echo(f"{spelled(signed.signer)} is revoked at {gateway}, entry {logged.index} of its log")
