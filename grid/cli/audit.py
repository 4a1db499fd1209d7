"""`grid-node peer audit`: the logs of the node's gateways looked at now, and compared with what a member was shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from grid.cli.desk import data_option, open_office
from grid.cli.plainly import word
from grid.wire.names import NodeId
from grid.wire.node import AUDIT, LogSeen, LookNow


@click.command()
@click.option(
    "--witness",
    type=word(NodeId, "name of a node"),
    help="The member to be asked, one that you know better than its gateway does.  [default: chance picks one]",
)
@data_option
def audit(witness: str | None, data: Path) -> None:
    """Look at the logs of this node's gateways now, and ask another member what it was shown of them.

    Fails if one of them is not to be believed.
    """

    async def seen() -> tuple[LogSeen, ...]:
        async with open_office(data) as office:
            return (await office.ask(AUDIT, LookNow(witness))).logs

    logs = asyncio.run(seen())
    for log in logs:
        click.echo(_line(log, witness))
    if not logs:
        raise click.ClickException("this node is listed at no gateway")
    if any(log.wrong for log in logs):
        raise click.ClickException(
            "do not believe what is wrong; `grid-node peer forget ADDRESS` if its operator said why"
        )


def _line(log: LogSeen, witness: str | None) -> str:
    if log.wrong:
        return f"{log.gateway}: WRONG: {log.wrong}"
    asked = f"{witness} told nothing of it" if witness else "no other member told anything of it"
    shown = f"{log.witness} was shown the same" if log.witness else asked
    return f"{log.gateway}: a log of {log.entries} entries, in order; {shown}"
