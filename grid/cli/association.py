"""`association` and `statistics`, of `grid-node` and `grid-gateway`: who belongs together, and what that one sees."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from grid.cli.desk import Office
from grid.cli.people import Place, open_counter, place_option
from grid.cli.plainly import Plainly
from grid.client.tables import moment, table
from grid.wire import associations as wire
from grid.wire.problems import NotFound

T = TypeVar("T")


def _with(place: Place, work: Callable[[Office], Awaitable[T]]) -> T:
    async def worked() -> T:
        async with open_counter(place, running=True) as office:
            return await work(office)

    return asyncio.run(worked())


@click.group(cls=Plainly)
def association() -> None:
    """Node and network, associated: one asks, the other accepts; then the network reads the node's statistics."""


@association.command()
@click.argument("address")
@click.option("--key", help="The only key that will do there: compare it with its owner's.")
@place_option
def ask(address: str, key: str | None, place: Place) -> None:
    """Ask the gateway (or, from a gateway, the node) at ADDRESS."""
    told = _with(place, lambda office: office.ask(wire.ASK_FOR, wire.AskFor(address.rstrip("/"), key)))
    click.echo(f"{told.id[:12]} is {told.state}; its people decide until {moment(told.expires)}")


@association.command(name="list")
@place_option
def list_associations(place: Place) -> None:
    """List the associations, those that changed last first."""
    told = _with(place, lambda office: office.ask(wire.ASSOCIATIONS)).associations
    rows = [(a.id[:12], a.role, a.name, a.address, a.state, moment(a.changed), a.why) for a in told]
    click.echo(table(("association", "with", "name", "address", "state", "since", ""), rows))


@association.command()
@click.argument("number", metavar="ASSOCIATION")
@place_option
def accept(number: str, place: Place) -> None:
    """Accept what another daemon asked."""
    _decide(place, number, wire.Decision(True))


@association.command()
@click.argument("number", metavar="ASSOCIATION")
@click.option("--why", default="", help="Words for the other side.")
@place_option
def deny(number: str, why: str, place: Place) -> None:
    """Deny it."""
    _decide(place, number, wire.Decision(False, why))


@association.command()
@click.argument("number", metavar="ASSOCIATION")
@place_option
def end(number: str, place: Place) -> None:
    """End an association, or take back what was asked."""

    async def work(office: Office) -> wire.AssociationInfo:
        return await office.ask(wire.END, id=await _whole(office, number))

    click.echo(f"{number} is {_with(place, work).state}")


@association.command()
@click.argument("number", metavar="ASSOCIATION")
@place_option
def statistics(number: str, place: Place) -> None:
    """Show the statistics of the node that a gateway is associated with."""

    async def work(office: Office) -> wire.Statistics:
        return await office.ask(wire.STATISTICS_OF, id=await _whole(office, number))

    show(_with(place, work))


@click.command(name="statistics")
@place_option
def own_statistics(place: Place) -> None:
    """Show counts and use of this node: data, people, requests, workers, budgets, and what was trained by the hour."""
    show(_with(place, lambda office: office.ask(wire.STATISTICS)))


def show(told: wire.Statistics) -> None:
    """Print a node's statistics."""
    click.echo(f"datasets {told.datasets}  tensors {told.tensors}  tags {told.tags}")
    click.echo(f"accounts {told.accounts}  groups {told.groups}  roles {told.roles}")
    click.echo(f"workers {told.workers}, busy {told.workers_busy}")
    for what, counts in (("requests", told.requests), ("runs", told.runs)):
        if counts:
            click.echo(f"{what}: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    if told.budgets:
        rows = [(b.dataset, b.subject or "all who ask", f"{b.epsilon:g}", f"{b.spent:.3g}") for b in told.budgets]
        click.echo(table(("dataset", "budget of", "epsilon", "spent"), rows))
    if told.activity:
        hours = [(moment(h.at), str(h.rounds), str(h.examples)) for h in told.activity]
        click.echo(table(("hour", "rounds trained", "examples"), hours))


def _decide(place: Place, number: str, decision: wire.Decision) -> None:
    async def work(office: Office) -> wire.AssociationInfo:
        return await office.ask(wire.DECIDE, decision, id=await _whole(office, number))

    click.echo(f"{number} is {_with(place, work).state}")


async def _whole(office: Office, number: str) -> str:
    """The whole name of an association, of which the beginning was given. Raises NotFound."""
    found = [a.id for a in (await office.ask(wire.ASSOCIATIONS)).associations if a.id.startswith(number)]
    if len(found) != 1:
        raise NotFound(f"{len(found)} associations begin with {number}")
    return found[0]
