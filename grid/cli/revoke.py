"""`grid-node revoke` and `rotate`: the node's key is declared lost, or gives its place to a new one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from grid.cli import certificates
from grid.cli.daemon import alone
from grid.cli.desk import data_option
from grid.cli.plainly import word
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.protocol.documents import sign_document
from grid.protocol.pins import spelled
from grid.store.database import Database
from grid.store.keys import erase_prekeys
from grid.wire.documents import Signed
from grid.wire.log import REVOKE_KEY, ROTATE_KEY, ROTATION, Revoke, Rotate, Rotation
from grid.wire.names import Address

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
    certificates.check(save, gateway)
    signed = (
        certificates.read(certificate)
        if certificate
        else certificates.sign(Identity.load(data / "identity.key"), reason)
    )
    if save:
        certificates.save(signed, save)
    else:
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


async def _hand_in(signed: Signed, gateways: tuple[str, ...]) -> None:
    async with open_http(Egress(allow_private=True)) as http:
        for gateway in gateways:
            logged = await Calls(http).call(gateway, REVOKE_KEY, Revoke(signed))
            click.echo(f"{spelled(signed.signer)} is revoked at {gateway}, entry {logged.index} of its log")
