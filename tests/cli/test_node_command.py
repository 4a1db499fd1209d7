from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from grid.cli.assemble import NodeSettings, open_node
from grid.cli.daemon import FILE, alone
from grid.cli.desk import open_desk
from grid.cli.node import main, own_identity, start
from grid.crypto.identity import Identity
from grid.dht.records import Network
from grid.transport.serve import running
from grid.wire.documents import Signed
from grid.wire.problems import GridError, NotAllowed
from tests.sim.net import record

ROOT = Path(__file__).resolve().parents[2]
SCIENTIST = Identity.from_seed(b"s" * 32)
Node = Callable[..., Result]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Runs `grid-node ...` on a data directory of its own."""
    runner = CliRunner(env={"GRID_DATA": str(tmp_path / "data")})
    return lambda *words: runner.invoke(main, list(map(str, words)))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "scans.csv"
    path.write_text("age,sex,ill\n40,f,1\n51,m,0\n60,f,1\n")
    return path


def blobs(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()]


# --- datasets -------------------------------------------------------------------------------


def test_a_file_becomes_a_dataset(node: Node, table: Path, tmp_path: Path) -> None:
    added = node("dataset", "add", table, "--tag", "#mri", "--tag", "#x", "--target", "ill", "--description", "Scans")

    assert added.exit_code == 0, added.output
    assert added.output.splitlines() == [
        "scans  3 examples  #mri #x",
        "    Scans",
        "    features float32 [3, 2]",
        "    target int64 [3]  (to be learned)",
        "    classes: 0, 1",
        "    columns: age, sex (f, m), ill",
    ]
    assert node("dataset", "list").output == added.output
    assert [path.stat().st_mode & 0o777 for path in blobs(tmp_path)] == [0o600]


def test_a_removed_dataset_leaves_nothing_behind(node: Node, table: Path, tmp_path: Path) -> None:
    node("dataset", "add", table, "--name", "d")
    removed = node("dataset", "remove", "d")

    assert (removed.exit_code, removed.output) == (0, "dataset d was removed\n")
    assert node("dataset", "list").output == ""
    assert blobs(tmp_path) == []


def test_how_a_file_is_read_can_be_told(node: Node, table: Path) -> None:
    words = ("--target", "sex", "--class", "m", "--class", "f", "--drop", "age")

    assert "classes: m, f" in node("dataset", "add", table, *words).output
    assert "target float32" in node("dataset", "add", table, "--name", "r", "--target", "ill", "--regression").output


@pytest.mark.parametrize(
    ("why", "content", "words"),
    [
        ("scans.csv: is empty", "", ()),
        ("line 3 has 1 values", "x,y\n1,2\n3\n", ()),
        ("column 'ill': 1 missing values, the first in line 3", "age,ill\n1,0\n2,\n", ("--target", "ill")),
        ("no column 'dead' to learn; there are age", "age\n1\n", ("--target", "dead")),
        ("'a b' cannot be a name", "x\n1\n", ("--name", "a b")),
        ("cannot be a tag", "x\n1\n", ("--tag", "#" * 200)),
    ],
)
def test_what_cannot_be_a_dataset_is_one_line_of_error(
    node: Node, table: Path, tmp_path: Path, why: str, content: str, words: tuple[str, ...]
) -> None:
    table.write_text(content)
    refused = node("dataset", "add", table, *words)

    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: ")
    assert why in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert node("dataset", "list").output == ""
    assert blobs(tmp_path) == []


def test_a_link_is_refused(node: Node, table: Path, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(table)

    assert "error: " in (said := node("dataset", "add", tmp_path / "link.csv").stderr)
    assert "symbolic link" in said


def test_a_name_that_is_taken_is_refused_before_the_file_is_read(node: Node, table: Path, tmp_path: Path) -> None:
    node("dataset", "add", table)
    table.write_text("")
    refused = node("dataset", "add", table)

    assert (refused.exit_code, "already here" in refused.stderr) == (1, True)
    assert len(blobs(tmp_path)) == 1


def test_a_dataset_that_is_not_there_cannot_be_removed(node: Node) -> None:
    refused = node("dataset", "remove", "none")

    assert (refused.exit_code, refused.stderr) == (1, "error: there is no dataset named none\n")


# --- trust and keys -------------------------------------------------------------------------


def test_keys_are_trusted_and_distrusted(node: Node) -> None:
    assert node("peer", "trust", SCIENTIST.id, "--name", "Ann").exit_code == 0
    assert node("peer", "list").output == f"{SCIENTIST.id}  Ann\n"

    assert node("peer", "distrust", SCIENTIST.id).exit_code == 0
    assert node("peer", "list").output == ""
    assert node("peer", "distrust", SCIENTIST.id).stderr == f"error: {SCIENTIST.id} was not trusted\n"


def test_what_is_no_key_is_not_trusted(node: Node) -> None:
    refused = node("peer", "trust", "ann")

    assert refused.exit_code == 2
    assert "'ann' is no key" in refused.output


def test_the_id_stays_the_same(node: Node) -> None:
    first = node("id").output

    assert re.search(r"node id +node-[0-9a-f]{8} ", first)
    assert re.search(r"public key +[A-Za-z0-9_-]{43}\n", first)
    assert re.search(r"fingerprint +([0-9a-f]{4} ){7}[0-9a-f]{4}\n", first)
    assert node("id").output == first


def test_a_key_that_others_can_read_is_refused(node: Node, tmp_path: Path) -> None:
    node("id")
    (tmp_path / "data" / "identity.key").chmod(0o644)
    refused = node("id")

    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ")
    assert "chmod 600" in refused.stderr


def test_each_token_is_a_new_one(node: Node) -> None:
    first, second = node("token").output, node("token").output

    assert first != second
    assert len(first.strip()) == 43


# --- a daemon on the same directory -----------------------------------------------------------


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def test_a_running_daemon_is_told_and_knows_at_once(data: Path, tmp_path: Path) -> None:
    settings = NodeSettings(node_id="n", data=data, isolation="prefer")
    identity, owner = (Identity.load_or_create(data / name) for name in ("identity.key", "owner.key"))
    async with open_node(settings, identity, owners=(owner.id,)) as daemon, running(daemon.app) as address:
        with alone(data) as post:
            post.announce(address)
            (tmp_path / "t.csv").write_text("x,y\n1,0\n2,1\n")
            added = await command("dataset", "add", tmp_path / "t.csv", "--tag", "#x", "--target", "y", data=data)
            assert added.exit_code == 0, added.output
            assert daemon.parts.catalogue.tags() == ("#x",)

            await command("peer", "trust", SCIENTIST.id, "--name", "Ann", data=data)
            daemon.parts.access.may_train(SCIENTIST.id)
            assert "Ann" in (await command("peer", "list", data=data)).output

            again = await command("dataset", "add", tmp_path / "t.csv", data=data)
            assert again.stderr.startswith("error: a dataset named t is already here")
            await command("peer", "distrust", SCIENTIST.id, data=data)
            await command("dataset", "remove", "t", data=data)
            assert daemon.parts.catalogue.list() == daemon.parts.access.trusted() == ()


async def command(*words: object, data: Path) -> Result:
    runner = CliRunner(env={"GRID_DATA": str(data)})
    return await asyncio.to_thread(runner.invoke, main, list(map(str, words)))


async def test_the_desk_refuses_a_daemon_with_another_key(data: Path, tmp_path: Path) -> None:
    settings = NodeSettings(node_id="n", data=tmp_path / "other", isolation="prefer")
    for name in ("identity.key", "owner.key"):
        Identity.load_or_create(data / name)
    async with open_node(settings, SCIENTIST, owners=()) as daemon, running(daemon.app) as address:
        with alone(data) as post:
            post.announce(address)
            async with open_desk(data) as desk:
                with pytest.raises(GridError):
                    await desk.datasets()


def test_two_daemons_cannot_share_a_directory(node: Node, tmp_path: Path) -> None:
    with alone(tmp_path / "data"):
        refused = node("start", "--port", "0")
        waiting = node("dataset", "list")

    assert (refused.exit_code, waiting.exit_code) == (1, 1)
    assert "another process works with this data directory" in refused.stderr
    assert "the daemon is starting" in waiting.stderr


def test_what_a_killed_daemon_left_behind_stops_nobody(node: Node, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE).write_text('{"address": "http://127.0.0.1:1", "pid": 1}')

    assert node("dataset", "list").exit_code == 0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    flags = f"--port 0 --isolation prefer --trust={SCIENTIST.id} --data {tmp_path / 'data'}".split()
    with subprocess.Popen(
        [sys.executable, "-m", "grid.cli.node", "start", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_a_node_starts_says_so_and_drains(node: Node, daemon: subprocess.Popen[str], tmp_path: Path) -> None:
    assert daemon.stdout is not None
    assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+\n", daemon.stdout.readline())
    assert SCIENTIST.id in node("peer", "list").output

    daemon.send_signal(signal.SIGTERM)
    _, said = daemon.communicate(timeout=20)
    assert daemon.returncode == 0
    assert len(re.findall(r"owner's token, shown this once .*: [A-Za-z0-9_-]{43}\n", said)) == 1
    assert (tmp_path / "data" / FILE).read_text() == ""


# --- a network without a centre -------------------------------------------------------------


def test_an_invitation_lets_its_key_and_no_other_into_the_network(node: Node) -> None:
    issuer = node("id").output.split("public key")[1].split()[0]
    printed = node("dht", "invite", SCIENTIST.id, "--group", "north", "--network", "n").output

    network = Network("n", issuers=frozenset({issuer}))
    signed = msgspec.json.decode(printed, type=Signed)
    assert (
        network.read(record(SCIENTIST, at=time.time(), network="n", membership=signed), time.time()).group
        == f"{issuer}/north"
    )
    with pytest.raises(NotAllowed):
        network.read(record(Identity.generate(), at=time.time(), network="n", membership=signed), time.time())


def test_a_node_that_does_not_run_has_no_network_to_look_at(node: Node) -> None:
    assert "does not run" in node("dht", "status").output


# --- settings -------------------------------------------------------------------------------


def test_the_example_file_names_every_setting_with_its_default() -> None:
    text = (ROOT / "config" / "node.toml").read_text()
    shown = tomllib.loads(re.sub(r"^# ([a-z-]+ = )", r"\1", text, flags=re.MULTILINE))
    plain = tomllib.loads(text)
    flags = {param.name.replace("_", "-"): param for param in start.params if param.name and param.expose_value}

    assert shown.keys() == flags.keys()
    assert {name: flags[name].default for name in plain} == plain


def test_a_wrong_setting_stops_the_start(node: Node) -> None:
    for words in (("--gateway", "gateway.org"), ("--trust", "ann"), ("--id", "-x"), ("--address", "ftp://x")):
        refused = node("start", *words)
        assert refused.exit_code == 2
        assert words[1] in refused.output


def test_a_node_whose_disk_was_wiped_is_told_its_key(tmp_path: Path, node: Node) -> None:
    secret = node("id", "--secret").output.strip()

    with pytest.raises(click.UsageError):
        own_identity(tmp_path / "wiped", "no secret")
    assert own_identity(tmp_path / "wiped", secret).id in node("id").output
    assert own_identity(tmp_path / "wiped", None).id in node("id").output


def test_help_needs_neither_numpy_nor_torch() -> None:
    program = (
        "import sys\nfrom grid.cli.node import main\nmain(['--help'], standalone_mode=False)\n"
        "print(sorted({'duckdb', 'numpy', 'torch'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert said.stdout.endswith("[]\n")


@pytest.mark.parametrize("way", ["flag", "environment", "file"])
def test_a_node_that_shall_use_gpus_only_does_not_start_without_one(tmp_path: Path, way: str) -> None:
    data, file = tmp_path / "data", tmp_path / "node.toml"
    file.write_text('device = "cuda"\n')
    words = {"flag": ["--device", "cuda"], "environment": [], "file": ["--config", str(file)]}[way]
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"} | ({"GRID_DEVICE": "cuda"} if way == "environment" else {})
    refused = CliRunner(env=hidden).invoke(main, ["start", "--data", str(data), "--port", "0", *words])

    assert refused.exit_code == 1
    assert "told to compute on a GPU, and" in refused.output
    assert "--device auto would use the processor" in refused.output
    assert not data.exists()
