"""`grid revoke`: a scientist's key is declared lost, at every node that knows it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from grid.cli import certificates
from grid.cli.connect import my_identity
from grid.cli.describe import plain
from grid.cli.plainly import word
from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.egress import Egress, open_http
from grid.client.writing import open_relay
from grid.crypto.identity import Identity, public_from_id
from grid.protocol.documents import read_document
from grid.wire.directory import CONNECTED_NODES, NODE_RECORD, NodeRecord
from grid.wire.documents import Signed
from grid.wire.log import Revoke
from grid.wire.names import Address
from grid.wire.node import REVOKE_HERE
from grid.wire.problems import GridError, NotFound

_file = click.Path(dir_okay=False, path_type=Path)


@click.command(name="revoke")
@click.option("--save", type=_file, help="Only write the certificate to this file, to be kept apart from the key.")
@click.option("--certificate", type=_file, help="Hand in a certificate that was written before; needs no key.")
@click.option(
    "--gateway", type=word(Address, "url (http://HOST:PORT)"), multiple=True, help="Whose nodes are told; repeats."
)
@click.option("--reason", default="", help="Why, for those who are refused.")
def revoke_mine(save: Path | None, certificate: Path | None, gateway: tuple[str, ...], reason: str) -> None:
    """Revoke your own key for good: no node that hears of it trains for it any more."""
    certificates.check(save, gateway)
    signed = certificates.read(certificate) if certificate else certificates.sign(my_identity(), reason)
    if save:
        certificates.save(signed, save)
    else:
        asyncio.run(_tell_nodes(signed, gateway))


async def _tell_nodes(signed: Signed, gateways: tuple[str, ...]) -> None:
    """Hand a revocation to every node of these gateways; who has it, and whom to ask again."""
    async with open_http(Egress(allow_private=True)) as http:
        nobody = Identity.generate()  # the key that is lost signs nothing more
        calls = Calls(http, identity=nobody)
        async with open_relay(calls, nobody, time.time) as relay:
            relay.gateways = gateways
            for gateway in gateways:
                directory = GatewayDirectory(calls, gateway)
                for name in (await calls.call(gateway, CONNECTED_NODES)).grid_nodes:
                    click.echo(f"{plain(name)}: {await _told(calls, directory, name, signed)}")


async def _told(calls: Calls, directory: GatewayDirectory, name: str, signed: Signed) -> str:
    try:
        member = await directory.resolve(name)
        if member.record is None:
            return "not told, it never proved who it is"
        address = read_document(member.record, NodeRecord, NODE_RECORD).node_address
        await calls.call(address, REVOKE_HERE, Revoke(signed), peer=public_from_id(member.record.signer))
    except NotFound:
        return "does not know the key"
    except GridError as error:
        return f"NOT TOLD, ask again: {error.detail}"
    return "trains for it no more"
