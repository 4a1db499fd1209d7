"""Models, variants, checkpoints and the rules of their owners; each function joins its caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from grid.protocol.model_access import Rule
from grid.wire.problems import ModelExists, ModelNotFound, ModelRefused


class ModelRow(Struct, frozen=True):
    """A model. `owner` is an account or a key, or empty: the node's owner; `created` in UTC seconds."""

    name: str
    owner: str
    details: str
    canonical: str
    created: float


class VariantRow(Struct, frozen=True):
    """One way to train a model: its hyperparameters, text to text."""

    model: str
    name: str
    details: str
    hyperparameters: dict[str, str]
    canonical: str
    upgrade: str
    created: float


class CheckpointRow(Struct, frozen=True):
    """Values for a variant's parameters: a file here (`digest`, `size` in bytes), or one elsewhere (`link`).

    Of two, the one that came later has the greater `number`.
    """

    number: int
    model: str
    variant: str
    name: str
    digest: str
    size: int
    link: str
    info: dict[str, str]
    created: float


class HostingRow(Struct, frozen=True):
    """What those who see a model may have of it: see `wire.models.Hosting`."""

    downloads: bool = True
    predicts: bool = False
    most_rows: int = 1024
    dataset: str = ""
    epsilon: float = 0.0


_MODEL = "name, owner, details, canonical, created"
_VARIANT = "model, name, details, hyperparameters, canonical, upgrade, created"
_CHECKPOINT = "number, model, variant, name, digest, size, link, info, created"


# --- models ---------------------------------------------------------------------------------------


def add_model(connection: sqlite3.Connection, row: ModelRow) -> None:
    """Keep a new model. Raises ModelExists."""
    try:
        connection.execute(
            f"INSERT INTO models ({_MODEL}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 - our own names
            (row.name, row.owner, row.details, row.canonical, row.created),
        )
    except sqlite3.IntegrityError:
        raise ModelExists(f"there is a model {row.name} already") from None


def change_model(connection: sqlite3.Connection, name: str, details: str, canonical: str) -> None:
    """Other words about a model, another variant to begin with, which may be still to come."""
    connection.execute("UPDATE models SET details = ?, canonical = ? WHERE name = ?", (details, canonical, name))


def model(connection: sqlite3.Connection, name: str) -> ModelRow:
    """One model. Raises ModelNotFound."""
    row = connection.execute(f"SELECT {_MODEL} FROM models WHERE name = ?", (name,)).fetchone()  # noqa: S608
    if row is None:
        raise ModelNotFound(f"there is no model {name} that you may see")
    return ModelRow(*row)


def models(connection: sqlite3.Connection, after: str = "") -> Iterable[ModelRow]:
    """All models behind a name, in order of name, as they are asked for."""
    rows = connection.execute(f"SELECT {_MODEL} FROM models WHERE name > ? ORDER BY name", (after,))  # noqa: S608
    return (ModelRow(*row) for row in rows)


def delete_model(connection: sqlite3.Connection, name: str) -> list[str]:
    """Forget a model with its variants, checkpoints and rules; the digests of files that nothing else needs now."""
    mine = connection.execute("SELECT DISTINCT digest FROM model_checkpoints WHERE model = ?", (name,)).fetchall()
    connection.execute("DELETE FROM models WHERE name = ?", (name,))
    return [digest for (digest,) in mine if digest and not uses(connection, digest)]


# --- variants -------------------------------------------------------------------------------------


def add_variant(connection: sqlite3.Connection, row: VariantRow) -> None:
    """Keep a new variant. Raises ModelExists."""
    try:
        connection.execute(
            f"INSERT INTO model_variants ({_VARIANT}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
            (
                row.model,
                row.name,
                row.details,
                msgspec.json.encode(row.hyperparameters),
                row.canonical,
                row.upgrade,
                row.created,
            ),
        )
    except sqlite3.IntegrityError:
        raise ModelExists(f"model {row.model} has a variant {row.name} already") from None


def change_variant(connection: sqlite3.Connection, row: VariantRow) -> None:
    """Other words about a variant, another checkpoint to begin with, a variant in its place: they may be to come."""
    connection.execute(
        "UPDATE model_variants SET details = ?, canonical = ?, upgrade = ? WHERE model = ? AND name = ?",
        (row.details, row.canonical, row.upgrade, row.model, row.name),
    )


def variant(connection: sqlite3.Connection, model: str, name: str) -> VariantRow:
    """One variant. Raises ModelNotFound."""
    for row in variants(connection, model):
        if row.name == name:
            return row
    raise ModelNotFound(f"model {model} has no variant {name}")


def variants(connection: sqlite3.Connection, model: str) -> list[VariantRow]:
    """The variants of a model, in order of name."""
    rows = connection.execute(
        f"SELECT {_VARIANT} FROM model_variants WHERE model = ? ORDER BY name",  # noqa: S608 - our own names
        (model,),
    )
    return [VariantRow(m, name, details, msgspec.json.decode(hyper), *rest) for m, name, details, hyper, *rest in rows]


# --- checkpoints ----------------------------------------------------------------------------------


def add_checkpoint(connection: sqlite3.Connection, row: CheckpointRow) -> CheckpointRow:
    """Keep a new checkpoint; it with its number. The first of a variant is the one to begin with.

    Raises:
        ModelExists: the variant has one of that name.
        ModelNotFound: there is no such variant.
    """
    of = variant(connection, row.model, row.variant)
    try:
        made = connection.execute(
            "INSERT INTO model_checkpoints (model, variant, name, digest, size, link, info, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.model,
                row.variant,
                row.name,
                row.digest,
                row.size,
                row.link,
                msgspec.json.encode(row.info),
                row.created,
            ),
        )
    except sqlite3.IntegrityError:
        raise ModelExists(f"{row.model}/{row.variant} has a checkpoint {row.name} already") from None
    if not of.canonical:
        change_variant(connection, msgspec.structs.replace(of, canonical=row.name))
    return msgspec.structs.replace(row, number=made.lastrowid or 0)


def checkpoint(connection: sqlite3.Connection, model: str, variant: str, name: str) -> CheckpointRow:
    """One checkpoint. Raises ModelNotFound."""
    row = connection.execute(
        f"SELECT {_CHECKPOINT} FROM model_checkpoints"  # noqa: S608 - our own names
        " WHERE model = ? AND variant = ? AND name = ?",
        (model, variant, name),
    ).fetchone()
    if row is None:
        raise ModelNotFound(f"{model}/{variant} has no checkpoint {name}")
    return _checkpoint(*row)


def checkpoints(connection: sqlite3.Connection, model: str, variant: str) -> list[CheckpointRow]:
    """The checkpoints of a variant, oldest first."""
    rows = connection.execute(
        f"SELECT {_CHECKPOINT} FROM model_checkpoints"  # noqa: S608 - our own names
        " WHERE model = ? AND variant = ? ORDER BY number",
        (model, variant),
    )
    return [_checkpoint(*row) for row in rows]


def checkpoint_range(
    connection: sqlite3.Connection, model: str, variant: str, first: str, last: str
) -> list[CheckpointRow]:
    """The checkpoints of a variant from one to another, both with it, oldest first.

    Raises:
        ModelNotFound: one of the two is not there.
        ModelRefused: the last came before the first.
    """
    begin, end = (checkpoint(connection, model, variant, name).number for name in (first, last))
    if end < begin:
        raise ModelRefused(f"checkpoint {last} came before {first}: a range goes from the older to the newer one")
    return [row for row in checkpoints(connection, model, variant) if begin <= row.number <= end]


def uses(connection: sqlite3.Connection, digest: str) -> int:
    """How many checkpoints are this file."""
    (count,) = connection.execute("SELECT COUNT(*) FROM model_checkpoints WHERE digest = ?", (digest,)).fetchone()
    return int(count)


# --- hosting --------------------------------------------------------------------------------------


def put_hosting(connection: sqlite3.Connection, model: str, row: HostingRow) -> None:
    """What those who see a model may have of it from now on."""
    connection.execute(
        "INSERT OR REPLACE INTO hosted_models (model, downloads, predicts, most_rows, dataset, epsilon) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (model, int(row.downloads), int(row.predicts), row.most_rows, row.dataset, row.epsilon),
    )


def hosting(connection: sqlite3.Connection, model: str) -> HostingRow:
    """What those who see a model may have of it; its files and no more, where nothing was said."""
    row = connection.execute(
        "SELECT downloads, predicts, most_rows, dataset, epsilon FROM hosted_models WHERE model = ?", (model,)
    ).fetchone()
    return HostingRow(bool(row[0]), bool(row[1]), *row[2:]) if row else HostingRow()


# --- rules ----------------------------------------------------------------------------------------


def put_rule(connection: sqlite3.Connection, model: str, rule: Rule) -> None:
    """A rule about a model, in place of the one about the same subject that there was."""
    connection.execute(
        "INSERT OR REPLACE INTO model_rules (model, subject, sees, commits, opens, most) VALUES (?, ?, ?, ?, ?, ?)",
        (model, rule.subject, int(rule.sees), int(rule.commits), int(rule.opens), rule.most),
    )


def drop_rule(connection: sqlite3.Connection, model: str, subject: str) -> bool:
    """No rule about that subject any more; whether there was one."""
    found = connection.execute("DELETE FROM model_rules WHERE model = ? AND subject = ?", (model, subject))
    return found.rowcount > 0


def rules(connection: sqlite3.Connection, model: str) -> list[Rule]:
    """The rules about a model, in order of subject."""
    rows = connection.execute(
        "SELECT subject, sees, commits, opens, most FROM model_rules WHERE model = ? ORDER BY subject", (model,)
    )
    return [Rule(subject, bool(sees), bool(commits), bool(opens), most) for subject, sees, commits, opens, most in rows]


def let_see(connection: sqlite3.Connection, name: str, account: str) -> None:
    """Let an account see a model, whatever else it may do. Nothing happens where there is no such model."""
    there = {rule.subject: rule for rule in rules(connection, name)}.get(account, Rule(account))
    if connection.execute("SELECT 1 FROM models WHERE name = ?", (name,)).fetchone():
        put_rule(connection, name, msgspec.structs.replace(there, sees=True))


def let_see_no_more(connection: sqlite3.Connection, name: str, account: str) -> None:
    """Take that back, unless more was said about the account meanwhile."""
    if Rule(account) in rules(connection, name):
        drop_rule(connection, name, account)


def _checkpoint(
    number: int, model: str, variant: str, name: str, digest: str, size: int, link: str, info: bytes, created: float
) -> CheckpointRow:
    return CheckpointRow(number, model, variant, name, digest, size, link, msgspec.json.decode(info), created)
