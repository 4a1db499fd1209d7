"""PyGrid's data-centric protocol over this node's catalogue, permissions and requests: a translation, no more.

A dataset goes by its name; a tensor by `DATASET:TENSOR`. What one may not find is in no listing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta

from grid.accounts.house import House
from grid.accounts.pygrid import user_told
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.node.access import Access
from grid.node.catalogue import Catalogue
from grid.node.permissions import Permissions
from grid.node.requests import Requests
from grid.protocol.permission import Visibility
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.wire import data_centric as wire
from grid.wire import requests as asked_for
from grid.wire.node import DatasetInfo, TensorInfo
from grid.wire.problems import DatasetNotFound, DatasetRefused, NotFound

_KINDS = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
_Text = Annotated[str, Meta(min_length=1, max_length=300)]
_STATES = {"auto-denied": "denied", "withdrawn": "denied", "lapsed": "denied", "released": "accepted"}
"""Ours, as PyGrid's three states have them."""


@dataclass(frozen=True)
class DataCentricParts:
    """What the routes call."""

    node_id: str
    version: str
    house: House
    catalogue: Catalogue
    permissions: Permissions
    access: Access
    requests: Requests


def data_centric_routes(parts: DataCentricParts) -> Routes:
    """Every route beside users, roles and groups, with its handler."""
    return {**_general(parts), **_datasets(parts), **_tensors(parts), **_requests(parts)}


def _general(parts: DataCentricParts) -> Routes:
    book = parts.house.book

    async def status(request: web.Request) -> web.StreamResponse:
        told = {"init": bool(book.accounts), "nodeName": parts.node_id, "nodeId": parts.node_id}
        return body.reply(wire.SETUP_STATUS, told, request=request)

    async def setup(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.SETUP, {"domain_name": parts.node_id, "allow_user_signup": False}, request=request)

    async def do_setup(request: web.Request) -> web.StreamResponse:
        asked: wire.NewUser = await body.read(request, wire.DO_SETUP)
        row = await parts.house.people.create(request[CALLER], asked.email, asked.password, asked.email)
        return body.reply(wire.DO_SETUP, user_told(parts.house, row), request=request)

    async def metadata(request: web.Request) -> web.StreamResponse:
        told = {"name": parts.node_id, "id": parts.node_id, "version": parts.version}
        return body.reply(wire.METADATA, told, request=request)

    async def dashboard(request: web.Request) -> web.StreamResponse:
        shown = parts.catalogue.advertised()
        made = [row for row in book.accounts.values() if not book.role_of(row).owns]
        counts = {
            "datasets": len(shown),
            "tensors": sum(len(info.tensors) for info in shown),
            "requests": len(await parts.requests.all(request[CALLER])),
            "common_users": sum(book.role_of(row).name == "User" for row in made),
            "org_users": len(book.accounts) - sum(book.role_of(row).name == "User" for row in made),
            "groups": len(book.groups),
            "roles": len(book.roles),
        }
        return body.reply(wire.DASHBOARD, counts, request=request)

    return {
        wire.SETUP_STATUS: status,
        wire.SETUP: setup,
        wire.DO_SETUP: do_setup,
        wire.METADATA: metadata,
        wire.DASHBOARD: dashboard,
    }


# --- datasets and tensors -------------------------------------------------------------------------


def _datasets(parts: DataCentricParts) -> Routes:
    async def listed(request: web.Request) -> web.StreamResponse:
        rows = [_dataset_told(info, tensors=False) for info in _found(parts, request)]
        return body.reply(wire.DATASETS, rows, request=request)

    async def added(request: web.Request) -> web.StreamResponse:
        given: wire.DatasetGiven = await body.read(request, wire.ADD_DATASET)
        info = await _kept(parts, given)
        return body.reply(wire.ADD_DATASET, _dataset_told(info), request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        info = parts.permissions.info(parts.access.asker(request[CALLER]), body.part(request, "id", _Text))
        return body.reply(wire.DATASET, _dataset_told(info), request=request)

    async def changed(request: web.Request) -> web.StreamResponse:
        asked: wire.DatasetAsked = await body.read(request, wire.CHANGE_DATASET)
        seen: Visibility | None = None if asked.private is None else "private" if asked.private else "public"
        info = await parts.catalogue.change(
            body.part(request, "id", _Text),
            description=asked.description if asked.description is not None else asked.manifest,
            tags=asked.tags,
            visibility=seen,
        )
        return body.reply(wire.CHANGE_DATASET, _dataset_told(info), request=request)

    async def removed(request: web.Request) -> web.StreamResponse:
        name = body.part(request, "id", _Text)
        await parts.catalogue.remove(name)
        parts.permissions.forget(name)
        return body.reply(wire.REMOVE_DATASET, {"message": "Dataset removed"}, request=request)

    return {
        wire.DATASETS: listed,
        wire.ADD_DATASET: added,
        wire.DATASET: shown,
        wire.CHANGE_DATASET: changed,
        wire.REMOVE_DATASET: removed,
    }


def _tensors(parts: DataCentricParts) -> Routes:
    async def listed(request: web.Request) -> web.StreamResponse:
        rows = [_tensor_told(info, tensor) for info in _found(parts, request) for tensor in info.tensors]
        return body.reply(wire.TENSORS, rows, request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        name, _, tensor = body.part(request, "id", _Text).partition(":")
        info = parts.permissions.info(parts.access.asker(request[CALLER]), name)
        for each in info.tensors:
            if each.name == tensor:
                return body.reply(wire.TENSOR, _tensor_told(info, each), request=request)
        raise DatasetNotFound(f"dataset {name} has no tensor {tensor}")

    return {wire.TENSORS: listed, wire.TENSOR: shown}


def _found(parts: DataCentricParts, request: web.Request) -> Iterator[DatasetInfo]:
    """All datasets that a caller may find, page after page."""
    asker, after = parts.access.asker(request[CALLER]), ""
    while True:
        page = parts.permissions.page(asker, after, 1000)
        yield from page.datasets
        if not page.more:
            return
        after = page.datasets[-1].name


async def _kept(parts: DataCentricParts, given: wire.DatasetGiven) -> DatasetInfo:
    """Write the tensors into a file of the node's own store, and register it."""
    specs = [TensorSpec(each.name, _KINDS[each.dtype], each.shape) for each in given.tensors]
    if any(spec.size != len(each.data) for spec, each in zip(specs, given.tensors, strict=True)):
        raise DatasetRefused("a tensor has another number of bytes than its type and shape say")
    layout, by_name = Layout(specs), {each.name: each.data for each in given.tensors}
    draft = parts.catalogue.draft()
    try:
        draft.write(header_bytes(layout))
        for spec in layout.specs:
            draft.write(by_name[spec.name])
        await draft.commit()
    except BaseException:
        draft.abort()
        raise
    tensors = tuple(TensorInfo(each.name, each.dtype, each.shape) for each in given.tensors)
    info = DatasetInfo(
        given.name,
        given.description or given.manifest,
        tuple(given.tags),
        given.tensors[0].shape[0] if given.tensors[0].shape else 0,
        tensors,
        given.target,
    )
    try:
        return await parts.catalogue.add(info, draft.digest, "private" if given.private else "public")
    except BaseException:
        await parts.catalogue.discard(draft.digest)
        raise


def _dataset_told(info: DatasetInfo, *, tensors: bool = True) -> wire.Told:
    told: wire.Told = {"id": info.name, "name": info.name, "description": info.description, "manifest": ""}
    told |= {"tags": list(info.tags), "examples": info.examples}
    return told | ({"tensors": [_tensor_told(info, each) for each in info.tensors]} if tensors else {})


def _tensor_told(info: DatasetInfo, tensor: TensorInfo) -> wire.Told:
    told: dict[str, Any] = {"id": f"{info.name}:{tensor.name}", "name": tensor.name, "dataset": info.name}
    return told | {"dtype": tensor.dtype, "shape": list(tensor.shape), "tags": list(info.tags)}


# --- requests ---------------------------------------------------------------------------------------


def _requests(parts: DataCentricParts) -> Routes:
    requests = parts.requests

    def number(request: web.Request) -> int:
        return body.part(request, "id", wire.Number)

    async def listed(request: web.Request) -> web.StreamResponse:
        rows = [_request_told(parts, each) for each in await requests.all(request[CALLER])]
        return body.reply(wire.REQUESTS, rows, request=request)

    async def added(request: web.Request) -> web.StreamResponse:
        given: wire.RequestGiven = await body.read(request, wire.ADD_REQUEST)
        dataset, _, tensor = given.object_id.partition(":")
        if given.request_type == "budget":
            asked = asked_for.Ask("budget", dataset, given.reason, epsilon=given.epsilon)
        else:
            asked = asked_for.Ask("download", dataset, given.reason, tensor=tensor or None)
        info = await requests.ask(asked, request[CALLER])
        return body.reply(wire.ADD_REQUEST, _request_told(parts, info), request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        info = await requests.get(number(request), request[CALLER])
        return body.reply(wire.REQUEST, _request_told(parts, info), request=request)

    async def decided(request: web.Request) -> web.StreamResponse:
        said: wire.RequestDecided = await body.read(request, wire.DECIDE)
        caller, id_ = request[CALLER], number(request)
        mine = (await requests.get(id_, caller)).account == caller.account
        if mine and said.status == "denied":
            info = await requests.withdraw(id_, caller)
        else:
            info = await requests.decide(id_, asked_for.Decision(said.status == "accepted", said.reason), caller)
        return body.reply(wire.DECIDE, _request_told(parts, info), request=request)

    async def withdrawn(request: web.Request) -> web.StreamResponse:
        info = await requests.withdraw(number(request), request[CALLER])
        return body.reply(wire.WITHDRAW, _request_told(parts, info), request=request)

    return {
        wire.REQUESTS: listed,
        wire.ADD_REQUEST: added,
        wire.REQUEST: shown,
        wire.DECIDE: decided,
        wire.WITHDRAW: withdrawn,
    }


def _request_told(parts: DataCentricParts, info: asked_for.RequestInfo) -> wire.Told:
    try:
        user: int | None = parts.house.book.account(info.account).id
    except NotFound:
        user = None
    asked = info.asked
    return {
        "id": info.id,
        "date": info.created,
        "user_id": user,
        "user_name": info.account,
        "object_id": asked.dataset if asked.tensor is None else f"{asked.dataset}:{asked.tensor}",
        "object_type": "tensor" if asked.tensor else "dataset",
        "reason": asked.reason,
        "status": _STATES.get(info.state, info.state),
        "request_type": "budget" if asked.kind == "budget" else "permissions",
    }
