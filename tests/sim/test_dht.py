"""The network under load and loss, in time that passes only where all wait: no figure depends on the machine."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from grid.wire.dht import Want
from tests.sim.net import START, Net, identity, percentile, record
from tests.warp import loop_time, warped


class Figures(NamedTuple):
    found: int
    gets: list[float]
    calls: list[float]
    puts: list[float]
    holders: list[int]


async def measure(net: Net, *, killed: float, gets: int, puts: int) -> Figures:
    tags = [f"#tag-{number}" for number in range(40)]
    keys = [net.place(tag, record(identity(10**6 + number), tag)) for number, tag in enumerate(tags)]
    net.kill(killed)
    figures = Figures(0, [], [], [], [])
    found = 0
    for turn in range(gets):
        peer, began = net.alive(), loop_time()
        tag = tags[turn % len(tags)]
        collected = await peer.collect(keys[turn % len(tags)], Want(all=(tag,)))
        figures.gets.append(loop_time() - began)
        figures.calls.append(collected.calls)
        found += len(collected.records) == 1
    for turn in range(puts):
        peer, began = net.alive(), loop_time()
        key = tag_of(net, turn)
        figures.holders.append(await peer.publish(key, record(identity(2 * 10**6 + turn), f"#new-{turn}")))
        figures.puts.append(loop_time() - began)
    return figures._replace(found=found)


def tag_of(net: Net, turn: int) -> bytes:
    said = net.network.read(record(identity(2 * 10**6 + turn), f"#new-{turn}"), START)
    keys = net.network.keys(said.said, said.signed.signer)
    return max(keys)


def test_all_two_thousand_providers_of_a_tag_are_fetched_page_by_page() -> None:
    async def story() -> tuple[int, float]:
        net = Net(50)
        key = net.place("#all", *(record(identity(10**6 + number), "#all") for number in range(2000)))
        peer, want, began = net.alive(), Want(all=("#all",), limit=500), loop_time()
        first = await peer.collect(key, want)
        assert 500 <= len(first.records) <= first.kept == 2000
        net.dead.add(first.more[0][0].address)  # one of the holders goes meanwhile
        return len(await peer.rest(key, want, first)), loop_time() - began

    found, seconds = warped(story())

    assert found == 2000
    assert seconds < 3.0


def test_half_of_two_hundred_die_and_everything_is_found_in_time() -> None:
    figures = warped(measure(Net(200), killed=0.5, gets=200, puts=60))

    assert figures.found == 200
    assert percentile(figures.gets, 0.99) <= 1.2
    assert percentile(figures.puts, 0.99) <= 1.5
    assert min(figures.holders) >= 3


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_thousand_are_as_quick_as_two_hundred() -> None:
    figures = warped(measure(Net(10_000), killed=0.0, gets=200, puts=20))

    assert figures.found == 200
    assert percentile(figures.gets, 0.99) <= 0.8
    assert sum(figures.calls) / len(figures.calls) <= 30
