"""The series of a node and the devices that introduce themselves: what is hosted, for whom, with which files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from grid.crypto.errors import BadSignature as NotSigned
from grid.crypto.jwt import claims
from grid.node.fleet.weights import check_numbers
from grid.node.models import Models, called
from grid.node.tasks.registry import summable
from grid.protocol import fleet as rules
from grid.protocol.fleet import Fleet, Turn
from grid.protocol.model_access import Rule
from grid.protocol.series import Terms
from grid.store import events, models
from grid.store import series as store
from grid.store.blobs import Blobs, Draft
from grid.store.database import Database
from grid.store.models import CheckpointRow, ModelRow, VariantRow
from grid.store.schema import Snapshot, Transaction
from grid.store.series import SeriesRow, Trust, Words
from grid.transport.auth import Caller
from grid.transport.parts import Parts, file_parts
from grid.wire.problems import (
    ModelNotFound,
    NotAuthenticated,
)

VARIANT = "rounds"
"""The variant of a series' model that its rounds make checkpoints of."""
FIRST = "round-0"
LATEST = "latest"
FILE_LIMIT = 64 * 1024 * 1024
"""Bytes of one file of a series, at most."""


class Hosting(NamedTuple):
    """A series to be: its model as a file of tensors, and its plans (by name, then by form) and protocols."""

    name: str
    version: str
    terms: Terms
    config: dict[str, object]
    trust: Trust | None
    model: bytes
    plans: Mapping[str, Mapping[str, bytes]]
    protocols: Mapping[str, bytes]


def topic(number: int) -> str:
    """Under which topic of the log a series' story stands."""
    return f"series/{number}"


def group(number: int) -> str:
    """The group of all devices of a series; no group of accounts can have such a name."""
    return f"series/{number}"


def device_name(secret: str) -> str:
    """By what a device is known here: its id is a secret that it shows, of which only this is kept."""
    return f"device-{sha256(secret.encode()).hexdigest()[:40]}"


def device_caller(secret: str, number: int) -> Caller:
    """A device as the services below know it."""
    return Caller(
        None, None, owner=False, kind="account", account=device_name(secret), groups=frozenset({group(number)})
    )


@dataclass
class Series:
    """Series as rows, their files in `blobs`. `changed` rings when a round may move."""

    database: Database
    models: Models
    blobs: Blobs
    now: Callable[[], float]
    entropy: Callable[[int], bytes] = os.urandom
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def sweep(self) -> None:
        """Remove the files that belong to no series. At the start only."""
        needed = await self.database.read(store.files)
        for path in await asyncio.to_thread(lambda: list(self.blobs.folder.glob("??/??/*"))):
            if path.name not in needed:
                self.blobs.delete(path.name)

    # --- hosting ----------------------------------------------------------------------------------

    async def host(self, caller: Caller, asked: Hosting) -> SeriesRow:
        """A new series, which waits for its first device.

        Raises:
            ProjectRefused: there is one of this name and version.
            ModelRefused: the model is no file of tensors, or not of float32 alone.
            StrategyRefused: its updates cannot be summed that way.
            Full, TooLarge
        """
        summable(asked.terms.strategy)
        draft = self.models.draft()
        try:
            await self._model(draft, asked.model)
            words = await self._words(asked)
            row = SeriesRow(
                id=0,
                name=asked.name,
                version=asked.version,
                owner=called(caller),
                terms=asked.terms,
                words=words,
                trust=asked.trust,
                fleet=Fleet(asked.terms.rounds, state=rules.RUNNING),
                turn=Turn(1),
                checkpoint=FIRST,
                created=self.now(),
            )
            made = await self.database.write(lambda connection: _host(connection, row, draft))
        except BaseException:
            draft.abort()
            raise
        self.changed.set()
        return made

    async def _model(self, draft: Draft, data: bytes) -> None:
        await asyncio.to_thread(draft.write, data)
        draft.cut()
        await asyncio.to_thread(check_numbers, draft.path)
        await draft.commit()

    async def _words(self, asked: Hosting) -> Words:
        plans = {
            name: {form: await self._file(data) for form, data in forms.items()} for name, forms in asked.plans.items()
        }
        protocols = {name: await self._file(data) for name, data in asked.protocols.items()}
        return Words(dict(asked.config), plans, protocols)

    async def _file(self, data: bytes) -> str:
        draft = self.blobs.create(FILE_LIMIT)
        try:
            await asyncio.to_thread(draft.write, data)
            await draft.commit()
        except BaseException:
            draft.abort()
            raise
        return draft.digest

    # --- devices ----------------------------------------------------------------------------------

    async def introduce(self, name: str, version: str, token: str) -> tuple[SeriesRow, str]:
        """A device comes for the first time: its series, and the secret by which it is known from now on.

        Raises:
            ProjectNotFound
            NotAuthenticated: the series lets in those alone who bring a token of whom it trusts.
        """
        row = await self.named(name, version)
        if row.trust is not None:
            try:
                claims(token, self.now(), secret=row.trust.secret, public_key=row.trust.public_key)
            except NotSigned as error:
                raise NotAuthenticated(str(error)) from None
        secret = str(UUID(bytes=self.entropy(16), version=4))
        now = self.now()
        await self.database.write(lambda connection: store.add_device(connection, device_name(secret), row.id, now))
        return row, secret

    async def known(self, secret: str) -> tuple[SeriesRow, store.DeviceRow]:
        """The device that shows a secret, and its series. Raises DeviceNotFound."""

        def work(connection: Snapshot) -> tuple[SeriesRow, store.DeviceRow]:
            device = store.device(connection, device_name(secret))
            return store.series(connection, device.series), device

        return await self.database.read(work)

    async def named(self, name: str, version: str) -> SeriesRow:
        """The series of a name and version. Raises ProjectNotFound."""
        return await self.database.read(lambda connection: store.named(connection, name, version))

    # --- what is handed out -------------------------------------------------------------------------

    async def checkpoint(self, row: SeriesRow, name: str) -> Parts:
        """The file of a checkpoint: by its number from 1, its name, or `latest`. Raises ModelNotFound."""

        def work(connection: Snapshot) -> CheckpointRow:
            found = models.checkpoints(connection, row.model, VARIANT)
            for number, each in enumerate(found, 1):
                if name in (each.name, str(number)) or (name == LATEST and number == len(found)):
                    return each
            raise ModelNotFound(f"there is no checkpoint {name} of {row.name} {row.version}")

        chosen = await self.database.read(work)
        return await asyncio.to_thread(file_parts, self.models.path(chosen), chosen.digest)

    def file(self, digest: str) -> Parts:
        """One of the files of a series."""
        return file_parts(self.blobs.path(digest), digest)


def _host(connection: Transaction, row: SeriesRow, draft: Draft) -> SeriesRow:
    made, now = store.add_series(connection, row), row.created
    models.add_model(connection, ModelRow(made.model, made.owner, f"{made.name} {made.version}", "", now))
    models.add_variant(connection, VariantRow(made.model, VARIANT, "", {}, "", "", now))
    first = CheckpointRow(0, made.model, VARIANT, FIRST, draft.digest, draft.size, "", {}, now)
    models.add_checkpoint(connection, first)
    models.put_rule(connection, made.model, Rule(f"@{group(made.id)}", commits=True, most=1))
    events.append(connection, topic(made.id), "hosted", now, {"name": made.name, "version": made.version})
    return made
