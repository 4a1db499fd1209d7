"""What a clone is set up from: the locks, the images, the one command."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {
    path.stem: path.read_text("utf-8") for path in (ROOT / "requirements").glob("*.txt") if path.stem != "left-out"
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)(.*(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)?", re.MULTILINE)


def pins(lock: str) -> dict[str, set[str]]:
    """The versions of each package; there may be several, for several Pythons."""
    found: dict[str, set[str]] = {}
    for name, version, _ in PIN.findall(lock):
        found.setdefault(name, set()).add(version)
    return found


def unhashed(lock: str) -> list[str]:
    """Lines that would install something nobody has looked at."""
    loose = [name for name, _, hashes in PIN.findall(lock) if not hashes]
    return loose + [line for line in PIN.sub("", lock).splitlines() if line.strip()]


def test_a_package_without_a_hash_is_found() -> None:
    hashed = f"a==1 \\\n    --hash=sha256:{'0' * 64}\n"

    assert unhashed(hashed) == []
    assert unhashed(hashed + "b==2\n") == ["b"]
    assert unhashed(hashed + "-e elsewhere\n") == ["-e elsewhere"]


def test_every_locked_package_has_its_hashes() -> None:
    assert {name: unhashed(lock) for name, lock in LOCKS.items()} == {name: [] for name in LOCKS}


def test_the_locks_agree_with_each_other() -> None:
    everything = pins(LOCKS["dev"])

    for name in ("demo", "node", "gateway"):
        assert pins(LOCKS[name]).items() <= everything.items()


def test_torch_is_left_to_the_machine() -> None:
    assert not [name for lock in LOCKS.values() for name in pins(lock) if re.match("torch|nvidia|triton|cuda", name)]


def test_a_gateway_is_installed_without_arrays() -> None:
    assert "numpy" not in pins(LOCKS["gateway"])
    assert "numpy" in pins(LOCKS["node"])


def test_all_that_the_project_asks_for_is_locked() -> None:
    groups = [*PROJECT["project"]["optional-dependencies"].values(), *PROJECT["dependency-groups"].values()]
    asked = {
        re.split(r"[\[><=;]", word)[0] for group in [PROJECT["project"]["dependencies"], *groups] for word in group
    }

    assert asked - {"torch", PROJECT["project"]["name"]} <= pins(LOCKS["dev"]).keys()


# --- images -------------------------------------------------------------------------------------


def stages(dockerfile: str) -> dict[str, list[str]]:
    """The instructions of each stage and of those it stands on."""
    built: dict[str, list[str]] = {}
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE)).splitlines()
    name = ""
    for line in filter(None, lines):
        if start := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            base, name = start.groups()
            built[name] = list(built.get(base, []))
        elif name:
            built[name].append(line)
    return built


def test_the_images_run_without_root_and_say_how_they_are() -> None:
    built = stages((ROOT / "Dockerfile").read_text("utf-8"))

    for role in ("gateway", "node"):
        words = [line.split()[0] for line in built[role]]
        users = [line.split()[1] for line in built[role] if line.startswith("USER")]
        assert users == ["10001:10001"]
        assert words[-3:] == ["HEALTHCHECK", "ENTRYPOINT", "CMD"]
        assert f'ENTRYPOINT ["grid-{role}"]' in built[role]


def test_the_gateway_image_has_no_torch() -> None:
    built = stages((ROOT / "Dockerfile").read_text("utf-8"))

    assert "torch" not in "\n".join(built["gateway"] + built["gateway-builder"])
    assert "torch==2.13.0" in "\n".join(built["node-builder"])


# --- the one command ----------------------------------------------------------------------------


def dev(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / "dev", *words], capture_output=True, text=True, check=False)


def test_dev_says_what_it_can_do() -> None:
    said = dev()

    assert said.returncode == 0
    for verb in ("demo", "test", "check", "bench", "clean"):
        assert f"./dev {verb}" in said.stdout


def test_dev_refuses_an_unknown_verb() -> None:
    assert dev("dance").returncode == 2


def test_dev_needs_nothing_but_the_standard_library() -> None:
    source = (ROOT / "dev").read_text("utf-8")

    assert set(re.findall(r"^ *(?:import|from) (\w+)", source, re.MULTILINE)) <= sys.stdlib_module_names
