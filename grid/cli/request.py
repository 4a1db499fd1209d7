"""`grid-node request` and `grid-node audit`: what others ask for, an officer's decisions, and the log of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from grid.cli.desk import data_option, open_office
from grid.cli.plainly import Plainly
from grid.client.tables import moment, table
from grid.protocol.audit_log import verified
from grid.wire import requests as wire
from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.problems import BadRequest

DAY = 86_400.0


def _ask(data: Path, endpoint: Endpoint[Any, Any], message: Any = None, query: Any = None, **path: Any) -> Any:
    async def asked() -> Any:
        async with open_office(data) as office:
            return await office.ask(endpoint, message, query=query, **path)

    return asyncio.run(asked())


@click.group(cls=Plainly)
def request() -> None:
    """Requests for access to this node's data."""


@request.command(name="list")
@click.option("--state", help="Only those that are pending, accepted, denied, ...")
@data_option
def list_requests(state: Any, data: Path) -> None:
    """List the requests, newest first."""
    told: wire.RequestList = _ask(data, wire.REQUESTS, query=wire.Which(state))
    rows = [
        (str(r.id), r.account, r.asked.kind, asked_for(r.asked), r.state, moment(r.created), r.asked.reason)
        for r in told.requests
    ]
    click.echo(table(("request", "account", "kind", "what", "state", "asked", "reason"), rows))


@request.command()
@click.argument("number", type=int)
@data_option
def show(number: int, data: Path) -> None:
    """Show a request with all that is known of it."""
    for line in described(_ask(data, wire.REQUEST, id=number)):
        click.echo(line)


@request.command()
@click.argument("number", type=int)
@click.option("--why", default="", help="Words for who asked.")
@click.option("--days", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="Good for.")
@data_option
def accept(number: int, why: str, days: float, data: Path) -> None:
    """Let them have what they ask for."""
    told = _ask(data, wire.DECIDE, wire.Decision(True, why, days * DAY), id=number)
    click.echo(f"request {number} is {told.state} until {moment(told.expires)}")


@request.command()
@click.argument("number", type=int)
@click.option("--why", required=True, help="Words for who asked.")
@data_option
def deny(number: int, why: str, data: Path) -> None:
    """Do not let them."""
    told = _ask(data, wire.DECIDE, wire.Decision(False, why), id=number)
    click.echo(f"request {number} is {told.state}")


def asked_for(asked: wire.Ask) -> str:
    """What a request is about, in a few words."""
    if asked.training is not None:
        return f"{asked.dataset}: {asked.training.rounds} rounds of {asked.training.plan[:12]}"
    more = {"budget": f"epsilon {asked.epsilon:g}" if asked.epsilon else "", "inference": asked.model or ""}
    return " ".join(filter(None, (asked.dataset, asked.action, asked.tensor, more.get(asked.kind))))


def described(told: wire.RequestInfo) -> Iterator[str]:
    """A request and its evidence, line by line."""
    yield f"request {told.id}: {told.asked.kind} of {asked_for(told.asked)}, by {told.account}"
    yield f"    {told.state} since {moment(told.changed or told.created)}, good until {moment(told.expires)}"
    yield f"    because: {told.asked.reason}"
    if told.by:
        yield f"    {told.by} decided" + (f": {told.why}" if told.why else "")
    evidence = told.evidence or wire.Evidence()
    for word, value in evidence.sheet:
        yield f"    {word:<21}{value}"
    for cost in evidence.costs:
        spent = "no end" if cost.cost is None else f"epsilon {cost.cost:.3g}, {cost.share:.0%} of it"
        yield f"    budget of {cost.whose}: {cost.epsilon:g}, {cost.left:.3g} left; this would cost {spent}"
    for name, figure in evidence.figures.items():
        usual = evidence.average.get(name)
        yield f"    {name}: {figure:g}" + (
            "" if usual is None else f" (more than {usual:.0%} of those accepted before)"
        )
    if evidence.history:
        yield f"    {told.account} so far: " + ", ".join(f"{n} {state}" for state, n in evidence.history.items())
    for word, said in evidence.provenance.items():
        yield f"    {word}: {said}"


@click.group(name="audit", cls=Plainly)
def audit_log() -> None:
    """The log of decisions: every request and what became of it, chained and signed by the node."""


@audit_log.command()
@data_option
def export(data: Path) -> None:
    """Write the log to standard output, an entry on each line."""

    async def entries() -> None:
        async with open_office(data) as office:
            after = 0
            while found := (await office.ask(wire.AUDIT_LOG, query=wire.Behind(after))).entries:
                for signed in found:
                    sys.stdout.write(msgspec.json.encode(signed).decode() + "\n")
                after += len(found)

    asyncio.run(entries())


@audit_log.command()
@click.argument("file", type=click.File("rb"))
@click.option("--key", help="The node's key: `grid-node id`. That of the first entry, if not given.")
def verify(file: Any, key: str | None) -> None:
    """Check an exported log: nothing in it was changed, left out or put in."""
    count, last = 0, 0.0
    for entry in verified(_lines(file), key):
        count, last = entry.number, entry.at
    click.echo(f"{count} entries" + (f", the last of {moment(last)}" if count else "") + ": nothing is wrong with them")


def _lines(file: Any) -> Iterator[Signed]:
    for number, line in enumerate(file, 1):
        try:
            yield msgspec.json.decode(line, type=Signed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadRequest(f"line {number} is no entry of such a log") from None
