"""Two hospitals and a data scientist: `python examples/hospital/story.py FOLDER`.

Starts a gateway and two nodes in FOLDER. Their owners host breast-cancer data (and one of them diabetes data), make an
officer, a group and an account; the scientist searches, tries a plan on mock data, asks, is admitted, trains with
differential privacy across both nodes, asks for release, and gets the model; a greedier run is denied by the ledger. In
the end the logs of decisions are exported and checked.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes

import grid

PRIVATE = {"rounds": 12, "dp": grid.Privacy(2.0, rate=0.2), "held": True}
GREEDY = {"rounds": 40, "dp": grid.Privacy(2.5, rate=0.2), "held": True}
BUDGET = "3"


class Daemon:
    """A gateway or a node of this machine, and its command line, which is its owner's."""

    def __init__(self, kind: str, data: Path, address: str) -> None:
        self.kind, self.data, self.address = kind, data, address

    def __call__(self, *words: str | Path) -> str:
        """What a command says."""
        command = [sys.executable, "-m", f"grid.cli.{self.kind}", *map(str, words)]
        keeps_state = words[:2] != ("audit", "verify")
        done = subprocess.run(
            [*command, *(["--data", str(self.data)] if keeps_state else [])],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{' '.join(map(str, words))}: {done.stderr}")
        return done.stdout.strip()


@contextmanager
def started(kind: str, data: Path, *words: str) -> Iterator[Daemon]:
    """A daemon for as long as the block lasts."""
    command = [sys.executable, "-m", f"grid.cli.{kind}", "start", "--port", "0", "--data", str(data), *words]
    with (data.parent / f"{data.name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        yield Daemon(kind, data, process.stdout.readline().split()[-1])
        process.terminate()
        process.wait(30)


def table(file: Path, names: Sequence[str], rows: np.ndarray) -> Path:
    """A CSV file."""
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(names)
        writer.writerows(rows.tolist())
    return file


def dealt(folder: Path) -> tuple[dict[str, Path], np.ndarray, np.ndarray]:
    """Each hospital's patients as files, and a test set that neither has: features and classes."""
    cancer = load_breast_cancer()
    names = [name.replace(" ", "_") for name in cancer.feature_names] + ["benign"]
    scaled = (cancer.data - cancer.data.mean(0)) / cancer.data.std(0)  # in units that both have agreed on
    rows = np.random.default_rng(0).permutation(np.column_stack([scaled, cancer.target]))
    files = {
        "north": table(folder / "north.csv", names, rows[:240]),
        "south": table(folder / "south.csv", names, rows[240:480]),
    }
    diabetes = load_diabetes()
    files["diabetes"] = table(
        folder / "diabetes.csv",
        [*diabetes.feature_names, "progression"],
        np.column_stack([diabetes.data, diabetes.target]),
    )
    return files, rows[480:, :-1].astype(np.float32), rows[480:, -1].astype(int)


def furnish(node: Daemon, file: Path, keeper: str) -> str:
    """What an owner does: people, data, a budget, gates. The scientist's password."""
    node("user", "add", "olga")
    node("user", "add", "cora", "--role", "Compliance Officer")
    node("group", "add", "oncology")
    password = node("user", "add", "sue", "--role", "User", "--group", "oncology")
    node("dataset", "add", file, "--name", "breast-cancer", "--tag", "#breast-cancer", "--target", "benign")
    node("budget", "set", "breast-cancer", BUDGET)
    node("dataset", "permit", "breast-cancer", "train", "--group", "oncology")
    node("dataset", "gate", "breast-cancer", "--admission", "--release", "--keeper", keeper)
    return password


def decide(node: Daemon, kind: str) -> None:
    """What an officer does: looks at what is pending, and accepts it."""
    (line,) = [each for each in node("request", "list", "--state", "pending").splitlines()[1:] if f" {kind} " in each]
    number = line.split()[0]
    print(f"-- an officer of {node.data.name} looks at request {number}:")
    print(node("request", "show", number))
    print(node("request", "accept", number, "--why", "it is for the study we agreed on"))


def accuracy(plan: grid.Plan, features: np.ndarray, classes: np.ndarray) -> float:
    """Of the small network that the plan is, computed by hand: nobody's data leaves for it."""
    layer = features
    weights = [np.frombuffer(plan.values[name], np.float32) for name in plan.values]
    sizes = [(16, 30), (16,), (2, 16), (2,)]
    first, bias, second, last = (array.reshape(shape) for array, shape in zip(weights, sizes, strict=True))
    layer = np.maximum(layer @ first.T + bias, 0.0) @ second.T + last
    return float((layer.argmax(1) == classes).mean())


def main(folder: Path) -> None:
    """The whole story."""
    folder.mkdir(parents=True, exist_ok=True)
    files, features, classes = dealt(folder)
    with ExitStack() as stack:
        gateway = stack.enter_context(started("gateway", folder / "gateway"))
        north, south = (
            stack.enter_context(started("node", folder / name, "--id", name, "--gateway", gateway.address))
            for name in ("north", "south")
        )
        keeper = north("id").splitlines()[1].split()[-1]
        passwords = [furnish(node, files[node.data.name], keeper) for node in (north, south)]
        north("dataset", "add", files["diabetes"], "--tag", "#diabetes", "--target", "progression", "--regression")
        sue = grid.Identity.generate()
        g = grid.connect(gateway.address, identity=sue)
        for node, password in zip((north, south), passwords, strict=True):
            print(g.login(node.address, "sue", password))
        print(g.search("#breast-cancer"))
        found = g.datasets("#breast-cancer")
        print(found)

        plan = grid.Plan.mlp([30, 16, 2], metrics=["accuracy"], optimizer="sgd", lr=0.5)
        print("on mock data:", found["north"][0].try_plan(plan))
        asked = g.request_training(plan, "#breast-cancer", reason="a screening study", **PRIVATE)
        for node in (north, south):
            decide(node, "training")
        print([request.decided().state for request in asked])

        run = g.train(plan, "#breast-cancer", coordinator=north.address, **PRIVATE)
        try:
            run.result()
        except grid.GridError as refused:
            print("not yet:", refused)
        for node in (north, south):
            decide(node, "release")
        learned = run.get()
        print(f"accuracy on {len(classes)} patients of neither hospital: {accuracy(learned, features, classes):.3f}")

        for request in g.request_training(plan, "#breast-cancer", reason="more of it", **GREEDY):
            print("a greedier run:", request.info.state, "-", request.info.why)
        print(north("budget", "list"))
        for node in (north, south):
            log = folder / f"{node.data.name}.jsonl"
            log.write_text(node("audit", "export") + "\n")
            print(f"{node.data.name}'s log of decisions:", node("audit", "verify", log))
        g.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
