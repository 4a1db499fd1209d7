from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from grid.cli.config import SETTINGS, daemon_options, is_loopback


@click.command(context_settings=SETTINGS)
@daemon_options(port=5000, data=Path("/nowhere"))
@click.option("--gateway", multiple=True)
@click.option("--allow-unsigned/--no-allow-unsigned", default=None)
def start(
    host: str, port: int, data: Path, log_level: str, gateway: tuple[str, ...], allow_unsigned: bool | None
) -> None:
    click.echo(f"{host} {port} {data} {log_level} {' '.join(gateway)} {allow_unsigned}")


def said(*flags: str, config: str = "", at: Path | None = None, **env: str) -> Result:
    if at:
        (at / "settings.toml").write_text(config)
        flags = (*flags, "--config", str(at / "settings.toml"))
    return CliRunner(env={"PORT": None, "GRID_PORT": None, "GRID_DATA": None, **env}).invoke(start, flags)


def test_without_a_word_the_defaults_hold() -> None:
    assert said().output == "127.0.0.1 5000 /nowhere info  None\n"


def test_the_file_stands_over_the_defaults(tmp_path: Path) -> None:
    config = 'port = 1\nlog-level = "debug"\ngateway = ["http://a", "http://b"]\nallow-unsigned = false'

    assert said(config=config, at=tmp_path).output == "127.0.0.1 1 /nowhere debug http://a http://b False\n"


def test_the_environment_stands_over_the_file(tmp_path: Path) -> None:
    result = said(config='port = 1\ndata = "/file"', at=tmp_path, PORT="2", GRID_DATA="/env", GRID_ALLOW_UNSIGNED="1")

    assert result.output == "127.0.0.1 2 /env info  True\n"


def test_flags_stand_over_the_environment(tmp_path: Path) -> None:
    result = said("--port", "3", "--host", "::1", config="port = 1", at=tmp_path, PORT="2", GRID_HOST="0.0.0.0")

    assert result.output == "::1 3 /nowhere info  None\n"


def test_the_grids_own_variable_stands_over_the_platforms() -> None:
    assert said(PORT="2", GRID_PORT="4").output.split()[1] == "4"


def test_the_file_may_be_named_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text("port = 7")

    assert said(GRID_CONFIG=str(tmp_path / "grid.toml")).output.split()[1] == "7"


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("prot = 1", "there is no setting 'prot'"),
        ("config = 'other.toml'", "there is no setting 'config'"),
        ("port = 'many'", "--port"),
        ("port = 70000", "--port"),
        ("log-level = 'loud'", "--log-level"),
        ("[port]\nnumber = 1", "port: takes a word"),
        ("port = ", "settings.toml"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(config: str, named: str, tmp_path: Path) -> None:
    result = said(config=config, at=tmp_path)

    assert result.exit_code == 2
    assert named in result.output


def test_a_file_that_is_not_there_stops_the_start() -> None:
    assert said("--config", "/no/such.toml").exit_code == 2


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("a.org", False),
    ],
)
def test_only_loopback_hosts_are_private_to_the_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
