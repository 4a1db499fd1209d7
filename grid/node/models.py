"""The models of this node: what their owners keep here, and what others may do with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterator
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from grid.learning.plan import RECIPE, refuse_code
from grid.learning.tensors import Layout, data_offset, read_header
from grid.protocol.model_access import ALL, Rule, rule_for
from grid.store import models as store
from grid.store.blobs import Blobs, Draft
from grid.store.database import Database
from grid.store.models import CheckpointRow, ModelRow, VariantRow
from grid.store.schema import Snapshot, Transaction
from grid.transport.auth import Caller
from grid.transport.body import BLOCK
from grid.transport.parts import Parts, file_parts
from grid.wire import models as wire
from grid.wire.problems import ModelNotFound, ModelRefused, NotAllowed, PlanRefused, TensorsRefused
from grid.wire.ranges import WHOLE, Piece
from grid.worker.port import trained_layout

T = TypeVar("T")


def called(caller: Caller) -> str:
    """By what a caller's models and tasks are known: its account or key; nothing, for the node's owner."""
    return caller.name or ""


def rule_of(connection: Snapshot, row: ModelRow, caller: Caller) -> Rule:
    """What a caller may do with a model: everything, where it is its own, or the caller owns this node."""
    if caller.owner or (caller.name is not None and caller.name == row.owner):
        return ALL
    return rule_for(store.rules(connection, row.name), caller.name, caller.groups)


def seen(connection: Snapshot, model: str, caller: Caller) -> tuple[ModelRow, Rule]:
    """A model, and what a caller may do with it. Raises ModelNotFound for who may not even see it."""
    row = store.model(connection, model)
    rule = rule_of(connection, row, caller)
    if not rule.sees:
        raise ModelNotFound(f"there is no model {model} that you may see")
    return row, rule


def owned(connection: Snapshot, model: str, caller: Caller) -> ModelRow:
    """A caller's own model. Raises ModelNotFound, NotAllowed."""
    row, _ = seen(connection, model, caller)
    if not caller.owner and caller.name != row.owner:
        raise NotAllowed(f"model {model} is another's")
    return row


class Models:
    """The repository: rows in `database`, the files of checkpoints in `blobs`, which nobody else writes to."""

    def __init__(self, database: Database, blobs: Blobs, now: Callable[[], float]) -> None:
        self._db, self._blobs, self._now = database, blobs, now

    def path(self, checkpoint: CheckpointRow) -> Path:
        """Where the file of a checkpoint is. Raises ModelRefused if it is not here."""
        if not checkpoint.digest:
            raise ModelRefused(f"the file of checkpoint {checkpoint.name} is not here, but at {checkpoint.link}")
        return self._blobs.path(checkpoint.digest)

    def draft(self, limit: int = wire.CHECKPOINT_LIMIT) -> Draft:
        """A file for a checkpoint to be, or for rows that a model is asked about."""
        return self._blobs.create(limit)

    async def sweep(self) -> None:
        """Remove the files of uploads that came to nothing. At the start only."""
        for path in await asyncio.to_thread(lambda: list(self._blobs.folder.glob("??/??/*"))):
            if not await self._db.read(partial(store.uses, digest=path.name)):
                self._blobs.delete(path.name)

    # --- models and variants ----------------------------------------------------------------------

    async def list(self, caller: Caller, page: wire.ModelPage) -> wire.ModelList:
        """The models that a caller may see."""

        def work(connection: Snapshot) -> list[wire.ModelInfo]:
            found: list[wire.ModelInfo] = []
            for row in store.models(connection, page.after):
                if rule_of(connection, row, caller).sees:
                    found.append(model_told(connection, row))
                if len(found) == page.most:
                    break
            return found

        return wire.ModelList(tuple(await self._db.read(work)))

    async def model(self, caller: Caller, model: str) -> wire.ModelInfo:
        """One model. Raises ModelNotFound."""
        return await self._db.read(lambda connection: model_told(connection, seen(connection, model, caller)[0]))

    async def put_model(self, caller: Caller, model: str, said: wire.NewModel) -> wire.ModelInfo:
        """Make a model, or say something else of it.

        Raises:
            ModelExists: another's, which the caller does not see.
            NotAllowed: it is another's.
        """
        row = ModelRow(model, called(caller), said.details, "", self._now())

        def work(connection: Transaction) -> wire.ModelInfo:
            try:
                owned(connection, model, caller)
            except ModelNotFound:
                store.add_model(connection, row)
            store.change_model(connection, model, said.details, said.canonical)
            return model_told(connection, store.model(connection, model))

        return await self._db.write(work)

    async def remove_model(self, caller: Caller, model: str) -> None:
        """Forget a model with all that belongs to it. Raises ModelNotFound, NotAllowed."""

        def work(connection: Transaction) -> list[str]:
            owned(connection, model, caller)
            return store.delete_model(connection, model)

        for digest in await self._db.write(work):
            await asyncio.to_thread(self._blobs.delete, digest)

    async def variant(self, caller: Caller, model: str, variant: str) -> wire.VariantInfo:
        """One variant. Raises ModelNotFound."""

        def work(connection: Snapshot) -> wire.VariantInfo:
            seen(connection, model, caller)
            return _variant_told(connection, store.variant(connection, model, variant))

        return await self._db.read(work)

    async def put_variant(self, caller: Caller, model: str, variant: str, said: wire.NewVariant) -> wire.VariantInfo:
        """Make a variant, or say something else of it.

        Raises:
            ModelNotFound: there is no such model.
            ModelRefused: other hyperparameters than it was made with.
            NotAllowed: it is another's.
        """
        row = VariantRow(model, variant, said.details, said.hyperparameters, "", "", self._now())

        def work(connection: Transaction) -> wire.VariantInfo:
            owned(connection, model, caller)
            try:
                there = store.variant(connection, model, variant)
            except ModelNotFound:
                store.add_variant(connection, there := row)
            if said.hyperparameters not in ({}, there.hyperparameters):
                raise ModelRefused("hyperparameters never change: others make another variant")
            changed = replace(there, details=said.details, canonical=said.canonical, upgrade=said.upgrade_to)
            store.change_variant(connection, changed)
            return _variant_told(connection, store.variant(connection, model, variant))

        return await self._db.write(work)

    # --- checkpoints ------------------------------------------------------------------------------

    async def checkpoint(self, caller: Caller, model: str, variant: str, name: str) -> CheckpointRow:
        """One checkpoint. Raises ModelNotFound."""

        def work(connection: Snapshot) -> CheckpointRow:
            seen(connection, model, caller)
            return store.checkpoint(connection, model, variant, name)

        return await self._db.read(work)

    async def link_checkpoint(
        self, caller: Caller, model: str, variant: str, name: str, said: wire.NewCheckpoint
    ) -> CheckpointRow:
        """A checkpoint whose file lies elsewhere. Raises ModelExists, ModelNotFound, NotAllowed."""
        return await self._add(caller, CheckpointRow(0, model, variant, name, "", 0, said.link, said.info, self._now()))

    async def put_checkpoint(
        self, caller: Caller, model: str, variant: str, name: str, blocks: AsyncIterable[bytes], piece: Piece = WHOLE
    ) -> CheckpointRow:
        """A checkpoint whose file is here.

        Raises:
            ModelExists, ModelNotFound, NotAllowed
            ModelRefused: not in the safetensors layout, or not what its digest says.
            TooLarge, Full
        """
        await self._db.read(lambda connection: owned(connection, model, caller))
        draft = self.draft()
        try:
            async for block in blocks:
                draft.write(block)
                del block  # see `transport.body.blocks`
            draft.cut()
            if piece.content not in ("", draft.digest):
                raise ModelRefused("the file is not the one that its digest names")
            await asyncio.to_thread(check_tensors, draft.path)
            return await self.keep(caller, draft, CheckpointRow(0, model, variant, name, "", 0, "", {}, self._now()))
        except BaseException:
            draft.abort()
            raise

    async def keep(self, caller: Caller, draft: Draft, row: CheckpointRow) -> CheckpointRow:
        """A checkpoint, and the file that was written for it. Raises ModelExists, ModelNotFound, NotAllowed, Full."""
        await draft.commit()
        return await self._add(caller, replace(row, digest=draft.digest, size=draft.size))

    async def file(self, caller: Caller, model: str, variant: str, name: str) -> Parts:
        """The file of a checkpoint. Raises ModelNotFound, ModelRefused; NotAllowed where only its answers are given.

        Whoever may commit to tasks for the model gets it all the same.
        """

        def check(connection: Snapshot) -> None:
            _, rule = seen(connection, model, caller)
            if not rule.commits and not store.hosting(connection, model).downloads:
                raise NotAllowed(f"model {model} may not be downloaded")

        await self._db.read(check)
        found = await self.checkpoint(caller, model, variant, name)
        return file_parts(self.path(found), found.digest)

    async def _add(self, caller: Caller, row: CheckpointRow) -> CheckpointRow:
        def work(connection: Transaction) -> CheckpointRow:
            owned(connection, row.model, caller)
            return store.add_checkpoint(connection, row)

        return await self._db.write(work)

    # --- rules ------------------------------------------------------------------------------------

    async def rules(self, caller: Caller, model: str) -> wire.AccessRules:
        """Who may do what with a caller's own model. Raises ModelNotFound, NotAllowed."""
        return await self._db.read(lambda connection: _rules_told(connection, owned(connection, model, caller)))

    async def put_rule(self, caller: Caller, model: str, subject: str, said: wire.AccessRule) -> wire.AccessRules:
        """Say who may do what with a model. Raises ModelNotFound, NotAllowed."""
        sees = said.sees or said.commits or said.opens
        rule = Rule(subject, sees=sees, commits=said.commits, opens=said.opens, most=said.most)

        def work(connection: Transaction) -> wire.AccessRules:
            row = owned(connection, model, caller)
            store.put_rule(connection, model, rule)
            return _rules_told(connection, row)

        return await self._db.write(work)

    async def drop_rule(self, caller: Caller, model: str, subject: str) -> wire.AccessRules:
        """Say so no longer. Raises ModelNotFound: also where there is no such rule; NotAllowed."""

        def work(connection: Transaction) -> wire.AccessRules:
            row = owned(connection, model, caller)
            if not store.drop_rule(connection, model, subject):
                raise ModelNotFound(f"model {model} has no rule about {subject}")
            return _rules_told(connection, row)

        return await self._db.write(work)


def check_tensors(path: Path) -> None:
    """Whether a file is in the safetensors layout, from its header alone. Raises ModelRefused."""
    with path.open("rb", buffering=0) as file:
        head_of(file)


def head_of(file: FileIO) -> tuple[Layout, dict[str, str], int]:
    """What a file of tensors holds, its metadata, and where its data begins. Raises ModelRefused."""
    try:
        prefix = file.read(8)
        refuse_code(prefix)
        prefix += file.read(data_offset(prefix) - 8)
        return read_header(prefix, Path(file.name).stat().st_size)
    except (PlanRefused, TensorsRefused) as error:
        raise ModelRefused(f"this is no file of tensors: {error.detail}") from None


def has_plan(path: Path) -> bool:
    """Whether a file of tensors says how they are trained. Raises ModelRefused if it is none."""
    with path.open("rb", buffering=0) as file:
        return RECIPE in head_of(file)[1]


def learned(path: Path) -> tuple[Layout, tuple[str, ...]]:
    """What of a checkpoint is learned, and what of that are running statistics; without a plan, all of it is.

    Raises:
        ModelRefused: it is no file of tensors.
        PlanRefused: its plan cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        layout, metadata, _ = head_of(file)
    return trained_layout(path) if RECIPE in metadata else (layout, ())


def load_model(path: Path, layout: Layout, into: memoryview) -> None:
    """The tensors of a layout out of a file that may hold more, into `into` (`layout.size` bytes).

    Raises:
        ModelRefused: one is missing, or of another shape or type.
    """
    with path.open("rb", buffering=0) as file:
        held, _, offset = head_of(file)
        for spec, begin, end in layout.slots:
            slot = held.by_name.get(spec.name)
            if slot is None or slot.spec != spec:
                raise ModelRefused(f"this checkpoint is of another model: {spec} is expected")
            file.seek(offset + slot.begin)
            _fill(file, into[begin:end])


def relearned(path: Path, layout: Layout, data: memoryview) -> Iterator[bytes | memoryview]:
    """A checkpoint's file with other values for what is learned (`data`, in the order of `layout`), in blocks."""
    with path.open("rb", buffering=0) as file:
        held, _, offset = head_of(file)
        file.seek(0)
        yield file.read(offset)
        for spec, begin, end in held.slots:
            slot = layout.by_name.get(spec.name)
            if slot is not None:
                yield data[slot.begin : slot.end]
                continue
            file.seek(offset + begin)
            left = end - begin
            while left and (block := file.read(min(BLOCK, left))):
                left -= len(block)
                yield block


def _fill(file: FileIO, into: memoryview) -> None:
    while into:
        into = into[file.readinto(into) :]


def model_told(connection: Snapshot, row: ModelRow) -> wire.ModelInfo:
    """A model, as it is told."""
    names = tuple(each.name for each in store.variants(connection, row.name))
    hosted = msgspec.convert(store.hosting(connection, row.name), wire.Hosting, from_attributes=True)
    return wire.ModelInfo(row.name, row.owner, row.details, row.canonical, names, row.created, hosted)


def _variant_told(connection: Snapshot, row: VariantRow) -> wire.VariantInfo:
    return wire.VariantInfo(
        model=row.model,
        variant=row.name,
        details=row.details,
        hyperparameters=row.hyperparameters,
        canonical=row.canonical,
        upgrade_to=row.upgrade,
        checkpoints=tuple(each.name for each in store.checkpoints(connection, row.model, row.name)),
        created=row.created,
    )


def checkpoint_told(row: CheckpointRow) -> wire.CheckpointInfo:
    """A checkpoint, as it is told."""
    return wire.CheckpointInfo(
        model=row.model,
        variant=row.variant,
        checkpoint=row.name,
        number=row.number,
        digest=row.digest,
        size=row.size,
        link=row.link,
        info=row.info,
        created=row.created,
    )


def _rules_told(connection: Snapshot, row: ModelRow) -> wire.AccessRules:
    rules = {rule.subject: rule for rule in store.rules(connection, row.name)}
    return wire.AccessRules(
        {name: msgspec.convert(rule, wire.AccessRule, from_attributes=True) for name, rule in rules.items()}
    )
