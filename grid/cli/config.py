"""Settings: flags over environment over a TOML file over defaults. Below this room everything takes plain values.

A daemon's command is made so, and gets each setting as a plain argument:

    @main.command(context_settings=SETTINGS)
    @daemon_options(port=5000, data=default_data("gateway"))
    @click.option("--lease", type=click.FloatRange(5, 3600), default=90.0)
    def start(host: str, port: int, data: Path, log_level: str, lease: float) -> None: ...

`--lease` is then also `GRID_LEASE` in the environment and `lease` in the file that `--config` (or
`GRID_CONFIG`) names. Keys of the file are the flags without dashes in front (`log-level = "info"`, lists for
flags that repeat); a key that no flag bears, or a value of a wrong type, stops the start and is named.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click

SETTINGS: dict[str, Any] = {"auto_envvar_prefix": "GRID", "show_default": True}
"""The `context_settings` of a command whose flags are settings."""

LOG_LEVELS = ("debug", "info", "warning", "error")

Command = TypeVar("Command", bound=Callable[..., Any])


def daemon_options(*, port: int, data: Path) -> Callable[[Command], Command]:
    """The settings every daemon has: `--config`, `--host`, `--port`, `--data`, `--log-level`."""
    options = (
        config_option,
        click.option("--host", default="127.0.0.1", help="Address to listen on."),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            envvar=["GRID_PORT", "PORT"],
            help="Port to listen on; 0 picks a free one.",
        ),
        click.option(
            "--data",
            type=click.Path(file_okay=False, path_type=Path),
            default=data,
            help="Where state and keys are kept.",
        ),
        click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", help="How much to log."),
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def default_data(role: str) -> Path:
    """Where a daemon keeps its state unless told otherwise."""
    return Path.home() / ".local" / "share" / "grid" / role


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a daemon that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_settings(file: Path, known: Collection[str]) -> dict[str, Any]:
    """The settings in a TOML file, by their names among the `known`.

    Raises:
        click.UsageError: the file is not TOML, or has a key that is no setting.
    """
    try:
        keys = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise click.UsageError(f"{file}: {error}") from None
    unknown = sorted(key for key in keys if key.replace("-", "_") not in known)
    if unknown:
        words = ", ".join(sorted(name.replace("_", "-") for name in known))
        raise click.UsageError(f"{file}: there is no setting {unknown[0]!r}; there are {words}")
    return {key.replace("-", "_"): _plain(value, f"{file}: {key}") for key, value in keys.items()}


def _plain(value: Any, where: str) -> Any:
    """click turns words into what a flag takes; a table or a date is never that."""
    if isinstance(value, list):
        return [_plain(item, where) for item in value]
    if not isinstance(value, str | int | float | bool):
        raise click.UsageError(f"{where}: takes a word, a number, true, false or a list of these")
    return value


def _apply(context: click.Context, option: click.Parameter, file: Path | None) -> None:
    if file is None:
        return
    known = {p.name for p in context.command.params if isinstance(p, click.Option) and p.expose_value and p.name}
    context.default_map = {**(context.default_map or {}), **read_settings(file, known)}


config_option = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_apply,
    help="A TOML file of settings.",
)
"""`--config FILE`; already part of `daemon_options`."""
