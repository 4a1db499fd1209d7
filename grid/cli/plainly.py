"""Commands for people: refusals in one line, and flags whose values are words of the wire."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import click
import msgspec

from grid.crypto.errors import CryptoError
from grid.wire.problems import GridError


class Plainly(click.Group):
    """Commands whose refusals are one line on standard error, `error: why`, and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except (GridError, CryptoError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # whoever read our output has seen enough
            click.echo(f"error: {_why(error)}", err=True)
            ctx.exit(1)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # without its number, which tells a person nothing
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def word(kind: Any, name: str) -> Callable[[str], str]:
    """The type of a flag whose value is one of the wire's constrained words."""

    def read(value: str) -> str:
        try:
            return str(msgspec.convert(value, kind))
        except msgspec.ValidationError:
            raise click.BadParameter(f"{value!r} is no {name}") from None

    read.__name__ = name.partition(" ")[0]  # what `--help` calls it
    return read
