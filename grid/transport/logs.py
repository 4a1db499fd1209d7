"""Logs: lines for people on a terminal, JSON objects elsewhere. They name ids, never payloads, keys or tokens."""

from __future__ import annotations

import logging
import secrets
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import count
from typing import Any, TextIO

import msgspec
from aiohttp.http_exceptions import HttpProcessingError

_process = secrets.token_hex(3)
_numbers = count(1)
_request: ContextVar[int] = ContextVar("request", default=0)
_plain = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def begin_request() -> None:
    """Give the present task a new request id; its log lines carry it from now on."""
    _request.set(next(_numbers))


def request_id() -> str:
    """The id of the request that the present task answers; empty outside of one."""
    number = _request.get()
    return f"{_process}-{number}" if number else ""


def setup(level: str = "info", stream: TextIO | None = None) -> None:
    """Send all logs from `level` upwards to `stream` (standard error): readable on a terminal, else JSON lines."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines() if stream.isatty() else JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("aiohttp.server").addFilter(_not_garbage)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _not_garbage(record: logging.LogRecord) -> bool:
    # Anyone can send what is not HTTP; a traceback for each would let anyone fill the disk.
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    extras = {name: value for name, value in record.__dict__.items() if name not in _plain}
    if request := request_id():
        extras["request"] = request
    return extras


class Lines(logging.Formatter):
    """`12:30:01 info    grid.node: what happened  id=value`, local time."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        at = self.formatTime(record, "%H:%M:%S")
        extras = "".join(f"  {name}={value}" for name, value in _extras(record).items())
        line = f"{at} {record.levelname.lower():<7} {record.name}: {record.getMessage()}{extras}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object per line: `at` (UTC), `level`, `logger`, `message`, `request`, and what `extra` named."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, without its line break."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()
