"""The README is carried out as it stands: its terminals, its Python, its curl; and the examples."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from grid.cli import gateway, grid, node
from grid.cli.small_grid import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

Ports = Mapping[str, str]


def shell(mark: str) -> list[str]:
    """The commands of all shell blocks under a mark; a line that ends with a backslash goes on."""
    blocks = re.findall(rf"<!-- {mark} -->\n```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


PYTHON = "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
TERMINALS = [shell(f"terminal {number}") for number in (1, 2, 3)]
CURL = shell("curl")


class Place(NamedTuple):
    """Where the README is carried out: a folder that looks like the clone, its ports in place of the usual ones."""

    folder: Path
    ports: Ports

    def here(self, text: str) -> str:
        for usual, port in self.ports.items():
            text = re.sub(rf"\b{usual}\b", port, text)
        return text

    @property
    def environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("GRID_") and name != "PORT"}
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**ours, "PATH": programs, "HOME": str(self.folder), "GRID_HOME": str(self.folder / "scientist")}

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def daemon(self, command: str) -> Iterator[None]:
        if "--port" not in command:  # the usual one, which need not be free here
            command += " --port 5000" if command.startswith("grid-gateway") else " --port 5001"
        with (
            (self.folder / "log").open("a") as log,
            subprocess.Popen(
                ["bash", "-c", f"exec {self.here(command)}"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            try:
                assert process.stdout is not None
                assert process.stdout.readline().startswith("listening on http://127.0.0.1:"), command
                yield
            finally:
                process.terminate()


@pytest.fixture(scope="module")
def terminals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The gateway and the two nodes, started by the README's own lines."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "examples").symlink_to(ROOT / "examples")
    place = Place(folder, {usual: str(free_port()) for usual in ("5000", "5001", "5002")})
    with ExitStack() as stack:
        for terminal in TERMINALS:
            for line in terminal:
                if " start " in line:
                    stack.enter_context(place.daemon(line))
                else:
                    place.run("bash", "-c", place.here(line))
        yield place


@pytest.mark.slow
def test_the_client_trains_on_both_nodes(terminals: Place) -> None:
    (terminals.folder / "client.py").write_text(terminals.here(PYTHON))

    said = terminals.run(sys.executable, "client.py")

    assert re.search(r"^alice .*\bonline\b.*yes$", said, re.MULTILINE)
    assert re.search(r"^bob +digits +\d+ ", said, re.MULTILINE)
    assert len(re.findall(r"^round +\d+/10  accuracy 0\.\d{4}.* 2 nodes ", said, re.MULTILINE)) == 10
    (accuracy,) = re.findall(r"'accuracy': (0\.\d+)", said)
    assert float(accuracy) > 0.9
    assert (terminals.folder / "digits.plan").stat().st_size > 4 * (64 * 128 + 128 * 10)


@pytest.mark.slow
def test_a_network_of_ones_own_trains_on_both_nodes(terminals: Place) -> None:
    gateway_url = terminals.here("http://127.0.0.1:5000")

    said = terminals.run(sys.executable, "examples/capture/train.py", "try", gateway_url)

    (accuracy,) = re.findall(r"^accuracy on the 450 scans of the test set: (0\.\d+)$", said, re.MULTILINE)
    assert float(accuracy) > 0.9


@pytest.mark.slow
def test_curl_searches_and_joins_with_the_json_of_the_rfc(terminals: Place) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    search, join, listed = (
        terminals.run("bash", "-c", terminals.here(f"{line} --silent --show-error")) for line in CURL
    )

    assert sorted(name for name, _ in json.loads(search)["node-addresses"]) == ["alice", "bob"]
    assert json.loads(join)["verified"] is False
    assert '"Bob"' in listed


@pytest.mark.slow
def test_phones_learn_by_fleas_http_alone(tmp_path: Path) -> None:
    place = Place(tmp_path, {})

    said = place.run(sys.executable, str(ROOT / "examples" / "flea" / "circus.py"), str(tmp_path), "2")

    rounds = re.findall(
        r"^round-(\d): 20 phones; accuracy round-\d (0\.\d+), before round-\d (0\.\d+)$", said, re.MULTILINE
    )
    assert [number for number, *_ in rounds] == ["1", "2"]
    assert float(rounds[0][2]) < float(rounds[0][1]) <= float(rounds[1][1])
    assert float(rounds[1][1]) > 0.85


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_phones_come_to_one_model_by_flaas_by_the_kernel_by_flea_and_by_pygrid(tmp_path: Path) -> None:
    place = Place(tmp_path, {})

    said = place.run(sys.executable, str(ROOT / "examples" / "phones" / "fleet.py"), str(tmp_path), "8", "2")

    assert "8 user(s) assigned succesfully to project 'Digits'" in said
    assert "Rounds completed: 2/2 (plus 0 invalid)" in said
    assert "phone1, 2" in said
    accuracies = re.findall(r"^(?:FLaaS: 8 phones, 2 rounds,|kernel:) accuracy (0\.\d+)", said, re.MULTILINE)
    assert len(set(accuracies)) == 1
    assert float(accuracies[0]) > 0.8
    apart = re.findall(r"([\d.e+-]+) apart(?: after one round)?$", said, re.MULTILINE)
    assert len(apart) == 3
    assert max(map(float, apart)) < 1e-5


def test_the_example_is_the_readmes() -> None:
    assert (ROOT / "examples" / "digits" / "train.py").read_text(encoding="utf-8") == PYTHON
    assert len([line for line in PYTHON.splitlines() if line]) <= 10


def test_every_link_leads_to_a_file() -> None:
    for page in (ROOT / "README.md", ROOT / "examples" / "README.md", ROOT / "config" / "README.md"):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def commands(group: click.Group, name: str) -> Iterator[str]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}"


def test_the_table_of_commands_has_them_all() -> None:
    """A row names a command in full, and others that share all its words but the last by that word alone."""
    told = set()
    for row in re.findall(r"^\| (`grid.*?) \|", README, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", row)
        told |= {first, *(f"{first.rpartition(' ')[0]} {other}" for other in others)}
    there = {
        *commands(gateway.main, "grid-gateway"),
        *commands(node.main, "grid-node"),
        *(name for name in commands(grid.main, "grid") if not name.startswith("grid plan ")),
        "grid plan",
    }

    assert told == there


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_hospitals_let_a_scientist_learn_and_deny_a_greedier_run(tmp_path: Path) -> None:
    """The roadmap's story, through command lines and the client alone."""
    story = ROOT / "examples" / "hospital" / "story.py"
    done = subprocess.run(
        [sys.executable, str(story), str(tmp_path / "here")], capture_output=True, text=True, timeout=380, check=False
    )
    said = done.stdout

    assert done.returncode == 0, said + done.stderr
    assert "['accepted', 'accepted']" in said
    assert said.count("this would cost epsilon 2, 67% of it") == 2
    assert re.search(r"^not yet: .*has not released this run$", said, re.MULTILINE)
    (accuracy,) = re.findall(r"^accuracy on 89 patients of neither hospital: (0\.\d+)$", said, re.MULTILINE)
    assert float(accuracy) > 0.85
    assert len(re.findall(r"^a greedier run: auto-denied - the budget of all who ask", said, re.MULTILINE)) == 2
    assert len(re.findall(r"log of decisions: 8 entries, .*: nothing is wrong with them$", said, re.MULTILINE)) == 2
