"""Flea's model repository over this node's models: a translation, which owns no rule and no table."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from msgspec import UNSET

from grid.node.dialects.flea_rows import FleaParts
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.auth import Caller
from grid.wire import flea_repository as wire
from grid.wire import models as ours
from grid.wire.flea import Health
from grid.wire.names import Name
from grid.wire.problems import BadRequest, ModelExists, ModelNotFound


def repository_routes(parts: FleaParts) -> Routes:
    """Every route of `/v1/repository/` with its handler."""
    return {**_model_routes(parts), **_variant_routes(parts), **_checkpoint_routes(parts)}


def _model_routes(parts: FleaParts) -> Routes:
    models = parts.models

    async def healthz(_: web.Request) -> web.StreamResponse:
        return body.reply(wire.HEALTHZ, Health())

    async def listed(request: web.Request) -> web.StreamResponse:
        found: list[str] = []
        asked, after = body.query(request, wire.MODELS), ""
        while page := (await models.list(request[CALLER], ours.ModelPage(after, 1000))).models:
            found += [each.model for each in page]
            after = page[-1].model
        return body.reply(wire.MODELS, wire.Models(_page(found, asked)))

    async def created(request: web.Request) -> web.StreamResponse:
        said = (await body.read(request, wire.CREATE_MODEL)).model
        name, caller = _named(said.model_id, "modelId"), request[CALLER]
        if await _is_there(parts, caller, name):
            raise ModelExists(f"there is a model {name} already")
        await models.put_model(caller, name, ours.NewModel(said.details or "", said.canonical_hyperparameters or ""))
        return body.reply(wire.CREATE_MODEL, wire.Made(f"/models/{name}"))

    async def shown(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.MODEL, _model_told(await models.model(request[CALLER], _part(request, "model"))))

    async def updated(request: web.Request) -> web.StreamResponse:
        said, name, caller = (
            (await body.read(request, wire.UPDATE_MODEL)).model,
            _part(request, "model"),
            request[CALLER],
        )
        before = await models.model(caller, name)
        details = before.details if said.details is UNSET else said.details
        canonical = said.canonical_hyperparameters
        new = ours.NewModel(details, before.canonical if canonical is UNSET else canonical)
        return body.reply(wire.UPDATE_MODEL, _model_told(await models.put_model(caller, name, new)))

    return {
        wire.HEALTHZ: healthz,
        wire.MODELS: listed,
        wire.CREATE_MODEL: created,
        wire.MODEL: shown,
        wire.UPDATE_MODEL: updated,
    }


def _variant_routes(parts: FleaParts) -> Routes:
    models = parts.models

    async def listed(request: web.Request) -> web.StreamResponse:
        found = await models.model(request[CALLER], _part(request, "model"))
        names = _page(found.variants, body.query(request, wire.VARIANTS))
        return body.reply(wire.VARIANTS, wire.HyperparametersList(found.model, names))

    async def created(request: web.Request) -> web.StreamResponse:
        said, model, caller = await body.read(request, wire.CREATE_VARIANT), _part(request, "model"), request[CALLER]
        name = _named(said.hyperparameters_id, "hyperparametersId")
        if name in (await models.model(caller, model)).variants:
            raise ModelExists(f"model {model} has hyperparameters {name} already")
        new = ours.NewVariant("", said.hyperparameters, said.canonical_checkpoint or "", said.upgrade_to or "")
        await models.put_variant(caller, model, name, new)
        return body.reply(wire.CREATE_VARIANT, wire.Made(f"/models/{model}/hyperparameters/{name}"))

    async def shown(request: web.Request) -> web.StreamResponse:
        found = await models.variant(request[CALLER], _part(request, "model"), _part(request, "variant"))
        return body.reply(wire.VARIANT, _variant_told(found))

    async def updated(request: web.Request) -> web.StreamResponse:
        said, caller = await body.read(request, wire.UPDATE_VARIANT), request[CALLER]
        names = _part(request, "model"), _part(request, "variant")
        before = await models.variant(caller, *names)
        checkpoint, upgrade = said.canonical_checkpoint, said.upgrade_to
        new = ours.NewVariant(
            before.details,
            said.hyperparameters,
            before.canonical if checkpoint is UNSET else checkpoint,
            before.upgrade_to if upgrade is UNSET else upgrade,
        )
        return body.reply(wire.UPDATE_VARIANT, _variant_told(await models.put_variant(caller, *names, new)))

    return {
        wire.VARIANTS: listed,
        wire.CREATE_VARIANT: created,
        wire.VARIANT: shown,
        wire.UPDATE_VARIANT: updated,
    }


def _checkpoint_routes(parts: FleaParts) -> Routes:
    models = parts.models

    async def listed(request: web.Request) -> web.StreamResponse:
        found = await models.variant(request[CALLER], _part(request, "model"), _part(request, "variant"))
        names = _page(found.checkpoints, body.query(request, wire.CHECKPOINTS))
        return body.reply(wire.CHECKPOINTS, wire.Checkpoints(found.model, found.variant, names))

    async def created(request: web.Request) -> web.StreamResponse:
        said, names = (
            await body.read(request, wire.CREATE_CHECKPOINT),
            (_part(request, "model"), _part(request, "variant")),
        )
        new = ours.NewCheckpoint(said.link, said.info)
        await models.link_checkpoint(request[CALLER], *names, said.checkpoint_id, new)
        path = request.path.removeprefix(wire.BASE) + f"/{said.checkpoint_id}"
        return body.reply(wire.CREATE_CHECKPOINT, wire.Made(path))

    async def shown(request: web.Request) -> web.StreamResponse:
        names = {each: _part(request, each) for each in ("model", "variant", "checkpoint")}
        found = await models.checkpoint(request[CALLER], *names.values())
        link = found.link or parts.url(request) + ours.CHECKPOINT_FILE.target(**names)
        path = request.path.removeprefix(wire.BASE)
        return body.reply(wire.CHECKPOINT, wire.Checkpoint(path, link, str(int(found.created)), found.info))

    return {wire.CHECKPOINTS: listed, wire.CREATE_CHECKPOINT: created, wire.CHECKPOINT: shown}


def _model_told(found: ours.ModelInfo) -> wire.ModelHeld:
    return wire.ModelHeld(wire.Model(found.model, found.details, found.canonical))


def _variant_told(found: ours.VariantInfo) -> wire.Hyperparameters:
    return wire.Hyperparameters(found.model, found.variant, found.upgrade_to, found.canonical, found.hyperparameters)


def _page(names: Iterable[str], asked: wire.Page) -> tuple[str, ...]:
    """So many names from the marker on, in order."""
    behind = sorted(name for name in names if name >= asked.marker)
    return tuple(behind[: asked.max_items or wire.PAGE])


async def _is_there(parts: FleaParts, caller: Caller, name: str) -> bool:
    try:
        await parts.models.model(caller, name)
    except ModelNotFound:
        return False
    return True


def _named(name: str, field: str) -> str:
    if not name:
        raise BadRequest(f"{field} is missing")
    return name


def _part(request: web.Request, name: str) -> str:
    return body.part(request, name, Name)
