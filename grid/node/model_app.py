"""The endpoints of models: each handler parses, calls, responds."""

from __future__ import annotations

from aiohttp import web

from grid.node.hosting import Hosts
from grid.node.models import Models, checkpoint_told
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.parts import send_parts
from grid.wire import models as wire
from grid.wire.directory import Done
from grid.wire.names import Name


def model_routes(models: Models, hosts: Hosts) -> Routes:
    """Every endpoint of models with its handler."""
    return {**_model_routes(models), **_checkpoint_routes(models), **_rule_routes(models), **_hosting_routes(hosts)}


def _model_routes(models: Models) -> Routes:
    async def listed(request: web.Request) -> web.StreamResponse:
        told = await models.list(request[CALLER], body.query(request, wire.MODELS))
        return body.reply(wire.MODELS, told, request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.MODEL, await models.model(request[CALLER], _model(request)), request=request)

    async def put(request: web.Request) -> web.StreamResponse:
        said = await body.read(request, wire.PUT_MODEL)
        told = await models.put_model(request[CALLER], _model(request), said)
        return body.reply(wire.PUT_MODEL, told, request=request)

    async def removed(request: web.Request) -> web.StreamResponse:
        await models.remove_model(request[CALLER], _model(request))
        return body.reply(wire.REMOVE_MODEL, Done(f"model {_model(request)} was removed"), request=request)

    async def variant(request: web.Request) -> web.StreamResponse:
        told = await models.variant(request[CALLER], *_variant(request))
        return body.reply(wire.VARIANT, told, request=request)

    async def put_variant(request: web.Request) -> web.StreamResponse:
        said = await body.read(request, wire.PUT_VARIANT)
        told = await models.put_variant(request[CALLER], *_variant(request), said)
        return body.reply(wire.PUT_VARIANT, told, request=request)

    return {
        wire.MODELS: listed,
        wire.MODEL: shown,
        wire.PUT_MODEL: put,
        wire.REMOVE_MODEL: removed,
        wire.VARIANT: variant,
        wire.PUT_VARIANT: put_variant,
    }


def _checkpoint_routes(models: Models) -> Routes:
    async def shown(request: web.Request) -> web.StreamResponse:
        row = await models.checkpoint(request[CALLER], *_checkpoint(request))
        return body.reply(wire.CHECKPOINT, checkpoint_told(row), request=request)

    async def linked(request: web.Request) -> web.StreamResponse:
        said = await body.read(request, wire.PUT_CHECKPOINT)
        row = await models.link_checkpoint(request[CALLER], *_checkpoint(request), said)
        return body.reply(wire.PUT_CHECKPOINT, checkpoint_told(row), request=request)

    async def file(request: web.Request) -> web.StreamResponse:
        return await send_parts(request, await models.file(request[CALLER], *_checkpoint(request)))

    async def put_file(request: web.Request) -> web.StreamResponse:
        blocks, piece = body.blocks(request, wire.PUT_CHECKPOINT_FILE), body.query(request, wire.PUT_CHECKPOINT_FILE)
        row = await models.put_checkpoint(request[CALLER], *_checkpoint(request), blocks, piece)
        return body.reply(wire.PUT_CHECKPOINT_FILE, checkpoint_told(row), request=request)

    return {
        wire.CHECKPOINT: shown,
        wire.PUT_CHECKPOINT: linked,
        wire.CHECKPOINT_FILE: file,
        wire.PUT_CHECKPOINT_FILE: put_file,
    }


def _rule_routes(models: Models) -> Routes:
    async def listed(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.RULES, await models.rules(request[CALLER], _model(request)), request=request)

    async def put(request: web.Request) -> web.StreamResponse:
        said, subject = await body.read(request, wire.PUT_RULE), body.part(request, "subject", wire.Subject)
        told = await models.put_rule(request[CALLER], _model(request), subject, said)
        return body.reply(wire.PUT_RULE, told, request=request)

    async def drop(request: web.Request) -> web.StreamResponse:
        subject = body.part(request, "subject", wire.Subject)
        told = await models.drop_rule(request[CALLER], _model(request), subject)
        return body.reply(wire.DROP_RULE, told, request=request)

    return {wire.RULES: listed, wire.PUT_RULE: put, wire.DROP_RULE: drop}


def _hosting_routes(hosts: Hosts) -> Routes:
    async def host(request: web.Request) -> web.StreamResponse:
        said = await body.read(request, wire.HOST)
        return body.reply(wire.HOST, await hosts.host(request[CALLER], _model(request), said), request=request)

    async def predict(request: web.Request) -> web.StreamResponse:
        blocks, which = body.blocks(request, wire.PREDICT), body.query(request, wire.PREDICT)
        told = await hosts.predict(request[CALLER], _model(request), which, blocks)
        return body.reply(wire.PREDICT, told, request=request)

    return {wire.HOST: host, wire.PREDICT: predict}


def _model(request: web.Request) -> str:
    return body.part(request, "model", Name)


def _variant(request: web.Request) -> tuple[str, str]:
    return _model(request), body.part(request, "variant", Name)


def _checkpoint(request: web.Request) -> tuple[str, str, str]:
    return *_variant(request), body.part(request, "checkpoint", Name)
