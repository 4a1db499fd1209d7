"""Logs for people and for programs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from grid.transport import logs


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.setup("info", stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level


def test_a_program_gets_one_object_per_line(lines: io.StringIO) -> None:
    logging.getLogger("grid.x").info("round %d\nopened", 3, extra={"run": "abc"})

    line = json.loads(lines.getvalue())
    assert (line["message"], line["run"], line["level"], line["logger"]) == ("round 3\nopened", "abc", "info", "grid.x")
    assert lines.getvalue().count("\n") == 1
    assert line["at"].endswith("+00:00")


def test_an_exception_is_part_of_its_line(lines: io.StringIO) -> None:
    try:
        raise KeyError("gone")
    except KeyError:
        logging.getLogger("grid.x").exception("failed")

    assert "KeyError: 'gone'" in json.loads(lines.getvalue())["exception"]


async def test_the_lines_of_a_request_bear_its_id(lines: io.StringIO) -> None:
    async def request() -> None:
        logs.begin_request()
        logging.getLogger("grid.x").info("inside")

    await asyncio.gather(asyncio.create_task(request()), asyncio.create_task(request()))
    logging.getLogger("grid.x").info("outside")

    first, second, outside = map(json.loads, lines.getvalue().splitlines())
    assert first["request"] != second["request"]
    assert "request" not in outside


def test_garbage_from_strangers_does_not_fill_the_log(lines: io.StringIO) -> None:
    try:
        raise BadHttpMessage("no HTTP")
    except BadHttpMessage:
        logging.getLogger("aiohttp.server").exception("Error handling request")

    assert lines.getvalue() == ""


def test_a_person_gets_a_plain_line() -> None:
    record = logging.makeLogRecord(
        {"name": "grid.x", "levelname": "INFO", "msg": "round %d", "args": (3,), "run": "abc"}
    )

    assert logs.Lines().format(record).endswith("info    grid.x: round 3  run=abc")
