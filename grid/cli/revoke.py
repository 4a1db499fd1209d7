"""`grid-node revoke` and `rotate`: the node's key is declared lost, or gives its place to a new one. `grid revoke`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click
import msgspec

from grid.cli.connect import my_identity
from grid.cli.daemon import alone
from grid.cli.describe import plain
from grid.cli.desk import data_option
from grid.cli.plainly import word
from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.egress import Egress, open_http
from grid.client.writing import open_relay
from grid.crypto.identity import Identity, public_from_id
from grid.protocol.documents import read_document, sign_document
from grid.protocol.pins import spelled
from grid.protocol.transparency import read_revocation
from grid.store.database import Database
from grid.store.keys import erase_prekeys
from grid.wire.directory import CONNECTED_NODES, NODE_RECORD, NodeRecord
from grid.wire.documents import Signed
from grid.wire.log import REVOCATION, REVOKE_KEY, ROTATE_KEY, ROTATION, Revocation, Revoke, Rotate, Rotation
from grid.wire.names import Address
from grid.wire.node import REVOKE_HERE
from grid.wire.problems import BadRequest, GridError, NotFound

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
    _check(save, gateway)
    signed = _read(certificate) if certificate else _sign(Identity.load(data / "identity.key"), reason)
    if save:
        _save(signed, save)
    else:
        asyncio.run(_hand_in(signed, gateway))


@click.command(name="revoke")
@click.option("--save", type=_file, help="Only write the certificate to this file, to be kept apart from the key.")
@click.option("--certificate", type=_file, help="Hand in a certificate that was written before; needs no key.")
@click.option(
    "--gateway", type=word(Address, "url (http://HOST:PORT)"), multiple=True, help="Whose nodes are told; repeats."
)
@click.option("--reason", default="", help="Why, for those who are refused.")
def revoke_mine(save: Path | None, certificate: Path | None, gateway: tuple[str, ...], reason: str) -> None:
    """Revoke your own key for good: no node that hears of it trains for it any more."""
    _check(save, gateway)
    signed = _read(certificate) if certificate else _sign(my_identity(), reason)
    if save:
        _save(signed, save)
    else:
        asyncio.run(_tell_nodes(signed, gateway))


def _check(save: Path | None, gateways: tuple[str, ...]) -> None:
    if (save is None) == (not gateways):
        raise click.UsageError("give --gateway to revoke the key now, or --save to write a certificate for later")


def _save(signed: Signed, file: Path) -> None:
    file.write_bytes(msgspec.json.encode(signed))
    file.chmod(0o600)
    click.echo(f"whoever has {file} can revoke {spelled(signed.signer)}")


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


def _sign(identity: Identity, reason: str) -> Signed:
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
