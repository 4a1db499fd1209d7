"""PyGrid's words for this node's series of rounds, both ways."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from grid.crypto.jwt import rsa_key
from grid.node.models import Models
from grid.node.series.registry import Hosting, Series
from grid.node.series.rounds import Rounds, Taken
from grid.protocol.series import Refusal, Terms
from grid.store.series import SeriesRow, Trust
from grid.wire import model_centric as wire
from grid.wire.problems import BadRequest, ModelNotFound, ProjectRefused

T = TypeVar("T")

FORMS = ("list", "torchscript", "tfjs")
"""The forms of a plan that devices ask for."""


@dataclass(frozen=True)
class PyGridParts:
    """The services of the node that PyGrid's words are calls on."""

    models: Models
    series: Series
    rounds: Rounds


def taken(said: object, kind: type[T]) -> T:
    """What somebody said, as a message. Raises BadRequest."""
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None


def hosting(asked: wire.HostAsked) -> Hosting:
    """A process as a series. Raises BadRequest, ProjectRefused: it asks for what is not done here."""
    said = taken(asked.client_config, wire.ClientConfig)
    if asked.averaging_plan:
        raise ProjectRefused("no plan of others runs here: `strategy` in server_config names how updates become one")
    plans = {
        name: {form: decoded(data) for form, data in ({FORMS[0]: given} if isinstance(given, str) else given).items()}
        for name, given in asked.plans.items()
    }
    protocols = {name: decoded(data) for name, data in asked.protocols.items()}
    for form in (form for forms in plans.values() for form in forms if form not in FORMS):
        raise BadRequest(f"a plan has the forms {', '.join(FORMS)}, not {form!r}")
    config = asked.server_config
    return Hosting(
        name=said.name,
        version=said.version,
        terms=terms_of(config),
        config=asked.client_config,
        trust=_trust(config.authentication),
        model=decoded(asked.model),
        plans=plans,
        protocols=protocols,
    )


def terms_of(config: wire.ServerConfig) -> Terms:
    """What a server_config asks. Raises ProjectRefused: more than it lets in."""
    most, devices = config.max_diffs or 0, config.max_workers or 0
    workers = config.min_workers or config.min_worker or 1
    least = config.min_diffs or min(workers, most or workers)
    if (most and least > most) or (devices and max(least, most) > devices):
        raise ProjectRefused("min_diffs is at most max_diffs, and that at most max_workers: a round could never end")
    return Terms(
        rounds=config.num_cycles,
        least=least,
        most=most,
        devices=devices,
        length=config.cycle_length or 0.0,
        selection=config.pool_selection,
        rest=config.do_not_reuse_workers_until_cycle or 0,
        up=config.minimum_upload_speed or 0.0,
        down=config.minimum_download_speed or 0.0,
        strategy=config.strategy,
    )


def decoded(text: str) -> bytes:
    """A file in hexadecimal, as PyGrid's clients send it, or in base64. Raises BadRequest."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("files are in hexadecimal or base64") from None


def cycle_told(row: SeriesRow, found: Taken | Refusal) -> wire.Told:
    """Accepted with a key, or rejected: why, and when to come again (`timeout`, absent where there is nothing more)."""
    about = {"model": row.name, "version": row.version}
    if isinstance(found, Refusal):
        told: wire.Told = {"status": "rejected", **about, "reason": found.slug, "detail": found.words}
        return told if found.retry_after is None else {**told, "timeout": round(found.retry_after, 3)}
    return {
        "status": "accepted",
        **about,
        "request_key": found.committed.ticket,
        "model_id": row.id,
        "plans": {name: number for number, name in enumerate(sorted(row.words.plans), 1)},
        "protocols": {name: number for number, name in enumerate(sorted(row.words.protocols), 1)},
        "client_config": row.words.config,
        "deadline": found.committed.task.task.ends if row.terms.length else None,
    }


def plan_file(row: SeriesRow, number: str, form: str) -> str:
    """The SHA-256 of a plan in a form. Raises ModelNotFound."""
    forms = row.words.plans[_nth(sorted(row.words.plans), number, "plan")]
    try:
        return forms[form]
    except KeyError:
        raise ModelNotFound(f"this plan is here as {', '.join(sorted(forms))}, not as {form}") from None


def protocol_file(row: SeriesRow, number: str) -> str:
    """The SHA-256 of a protocol. Raises ModelNotFound."""
    return row.words.protocols[_nth(sorted(row.words.protocols), number, "protocol")]


def _nth(names: list[str], number: str, kind: str) -> str:
    if not number.isascii() or not number.isdigit() or not 1 <= int(number[:9]) <= len(names):
        raise ModelNotFound(f"this process has no {kind} {number[:20]!r}")
    return names[int(number[:9]) - 1]


def _trust(said: wire.Authentication | None) -> Trust | None:
    if said is None:
        return None
    if said.endpoint:
        raise ProjectRefused("tokens are judged here, by `secret` or `pub_key`: no other server is asked")
    if bool(said.secret) == bool(said.pub_key):
        raise ProjectRefused("authentication has a `secret` or a `pub_key`, one of the two")
    if said.pub_key:
        try:
            rsa_key(said.pub_key)
        except ValueError as error:
            raise ProjectRefused(f"pub_key: {error}") from None
        return Trust(public_key=said.pub_key)
    return Trust(secret=decoded(said.secret) if said.is_secret_encoded else said.secret.encode())


def frame(kind: str, data: Any, request: Any) -> wire.Told:
    """A message of the websocket; `request` is the id by which its sender knows the answer, if it gave one."""
    return {"type": kind, "data": data} | ({} if request is None else {"request_id": request})
