"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp

from grid.client.calls import Calls
from grid.transport.metrics import Metrics
from tests.transport.daemon import ECHO, Daemon, Words


def test_a_histogram_counts_up() -> None:
    metrics = Metrics()
    count = metrics.endpoint("GET", "/x")
    for seconds in (0.0001, 0.03, 1000.0):
        count.begin()
        count.end(200, seconds)
    count.begin()

    text = metrics.render().decode()

    assert 'grid_http_requests_total{method="GET",path="/x",status="200"} 3.0' in text
    assert 'grid_http_request_seconds_bucket{le="0.001",method="GET",path="/x"} 1.0' in text
    assert 'grid_http_request_seconds_bucket{le="0.05",method="GET",path="/x"} 2.0' in text
    assert 'grid_http_request_seconds_bucket{le="+Inf",method="GET",path="/x"} 3.0' in text
    assert 'grid_http_in_flight{method="GET",path="/x"} 1.0' in text


def test_a_room_above_publishes_its_own_gauge() -> None:
    metrics = Metrics()
    members = [1, 2]
    metrics.gauge("grid_members", "Members", lambda: len(members))
    members.append(3)

    assert "\ngrid_members 3.0\n" in metrics.render().decode()


async def test_a_daemon_shows_its_figures(
    daemon: Daemon, calls: Callable[..., Calls], http: aiohttp.ClientSession
) -> None:
    await calls().call(daemon.address, ECHO, Words("hello"))

    async with http.get(f"{daemon.address}/metrics") as response:
        text = await response.text()

    assert 'grid_http_requests_total{method="POST",path="/echo",status="200"} 1.0' in text
    assert f'grid_http_body_bytes_total{{direction="in"}} {float(len(b"{`said-words`:`hello`}"))}' in text
    assert "process_resident_memory_bytes" in text
