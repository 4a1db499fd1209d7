"""The HTTP of a node's data: what is told about it, who may have it, and what its owner does with it."""

from __future__ import annotations

from aiohttp import web
from msgspec import UNSET, structs

from grid.node.access import Access
from grid.node.catalogue import Catalogue
from grid.node.ledger import Ledger
from grid.node.permissions import Permissions
from grid.node.requests import Requests
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.wire import node as wire
from grid.wire import permissions as permitted
from grid.wire.directory import Done
from grid.wire.names import Name


def data_routes(
    catalogue: Catalogue, permissions: Permissions, access: Access, ledger: Ledger, requests: Requests
) -> Routes:
    """Every endpoint of datasets, with its handler."""
    return {**_asked(catalogue, permissions, access, ledger, requests), **_kept(catalogue, permissions)}


def _asked(
    catalogue: Catalogue, permissions: Permissions, access: Access, ledger: Ledger, requests: Requests
) -> Routes:
    async def holds(request: web.Request) -> web.StreamResponse:
        query = await body.read(request, wire.HOLDS)
        return body.reply(wire.HOLDS, wire.Holds(catalogue.holds(query.query)), request=request)

    async def tags(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.DATASET_TAGS, catalogue.tags(), request=request)

    async def datasets(request: web.Request) -> web.StreamResponse:
        asked: wire.Page = body.query(request, wire.DATASETS)
        page = permissions.page(access.asker(request[CALLER]), asked.after, asked.limit)
        return body.reply(wire.DATASETS, page, request=request)

    async def dataset(request: web.Request) -> web.StreamResponse:
        info = permissions.info(access.asker(request[CALLER]), body.part(request, "name", Name))
        return body.reply(wire.DATASET, info, request=request)

    async def tensor(request: web.Request) -> web.StreamResponse:
        name, tensor = body.part(request, "name", Name), body.part(request, "tensor", Name)
        asker = access.asker(request[CALLER])
        permissions.check_read(asker, name, tensor)
        if not asker.owner:
            await ledger.check_bare(name)
        await requests.downloaded(asker.account, name, tensor)
        size, blocks = catalogue.tensor_blocks(name, tensor)
        return await body.send(request, blocks, size)

    async def mock(request: web.Request) -> web.StreamResponse:
        digest = permissions.mock_of(access.asker(request[CALLER]), body.part(request, "name", Name))
        size, blocks = catalogue.mock_blocks(digest)
        return await body.send(request, blocks, size)

    return {
        wire.HOLDS: holds,
        wire.DATASET_TAGS: tags,
        wire.DATASETS: datasets,
        wire.DATASET: dataset,
        wire.TENSOR: tensor,
        permitted.MOCK: mock,
    }


def _kept(catalogue: Catalogue, permissions: Permissions) -> Routes:
    async def add(request: web.Request) -> web.StreamResponse:
        new = await body.read(request, wire.ADD_DATASET)
        info = await catalogue.add(new.info, new.digest, new.visibility)
        return body.reply(wire.ADD_DATASET, info, request=request)

    async def change(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, permitted.CHANGE_DATASET)
        said = structs.asdict(asked) | {"mock": "" if asked.mock is None else asked.mock}
        wanted = {name: value for name, value in said.items() if value is not UNSET}
        info = await catalogue.change(body.part(request, "name", Name), **wanted)
        return body.reply(permitted.CHANGE_DATASET, info, request=request)

    async def remove(request: web.Request) -> web.StreamResponse:
        name = body.part(request, "name", Name)
        await catalogue.remove(name)
        permissions.forget(name)
        return body.reply(wire.REMOVE_DATASET, Done(f"dataset {name} was removed"), request=request)

    async def told(request: web.Request) -> web.StreamResponse:
        name = body.part(request, "name", Name)
        return body.reply(permitted.PERMISSIONS, permissions.told(name), request=request)

    async def permit(request: web.Request) -> web.StreamResponse:
        said, name = await body.read(request, permitted.PERMIT), body.part(request, "name", Name)
        await permissions.permit(name, said)
        return body.reply(permitted.PERMIT, Done(f"so it is said of {name}"), request=request)

    return {
        wire.ADD_DATASET: add,
        wire.REMOVE_DATASET: remove,
        permitted.CHANGE_DATASET: change,
        permitted.PERMISSIONS: told,
        permitted.PERMIT: permit,
    }
