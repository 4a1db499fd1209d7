"""Twenty phones learn handwritten digits by Flea's HTTP alone: `python examples/flea/circus.py FOLDER [ROUNDS]`.

Starts a node in FOLDER with a test set that no phone has, and a linear model. Each round is a task: registered for the
newest checkpoint, discovered, committed to and handed in for by the phones, closed, aggregated, and evaluated.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from phone import Phone

import grid
from grid.cli import digits

PHONES = 20
NODE = (sys.executable, "-m", "grid.cli.node")
MODEL = {"modelId": "digits", "hyperparametersId": "linear"}


class Generator(Phone):
    """Whoever opens the tasks: a program with a token of another type."""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the server answers."""
        data = None if body is None else json.dumps(body).encode()
        return json.loads(self.get(self.address + path, method, data, "application/json" if data else ""))

    def register(self, task: str, checkpoint: str) -> None:
        """A task for one checkpoint, open for an hour, with a file that says how to train."""
        fields = {**MODEL, "taskId": task, "checkpointIds": checkpoint, "active": "true"}
        fields["deadline"] = str(int(time.time()) + 3600)
        mark = secrets.token_hex(16)
        form = "".join(
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        form += f'--{mark}\r\nContent-Disposition: form-data; name="task"; filename="task.json"\r\n\r\n'
        form += json.dumps({"name": "train"}) + f"\r\n--{mark}--\r\n"
        self.get(f"{self.address}/v1/flea/tasks", "POST", form.encode(), f"multipart/form-data; boundary={mark}")

    def until(self, task: str, state: str) -> None:
        """Wait for what happens to a task."""
        cursor = 0
        while True:
            heard = self.ask("GET", f"/v1/tasks/{task}/events?after={cursor}&wait=20")
            cursor = heard["after"]
            if any(event["kind"] == state for event in heard["events"]):
                return


def main(folder: Path, rounds: int) -> None:
    dealt = digits.deal(digits.load(), PHONES)
    tokens = prepare(folder, dealt.test)
    with running(folder) as address:
        told(folder, "model", "add", "digits", "linear", "round-0", str(folder / "plan.safetensors"))
        told(folder, "model", "allow", "digits", "*", "--commit", "--open")
        generator = Generator(address, tokens[0], np.empty(0), np.empty(0))
        phones = [
            Phone(
                address,
                token,
                np.array([scan.pixels for scan in share], np.float32),
                np.array([s.digit for s in share]),
            )
            for token, share in zip(tokens[1:], dealt.shares, strict=True)
        ]
        for number in range(1, rounds + 1):
            carry_out(generator, phones, number)


def carry_out(generator: Generator, phones: list[Phone], number: int) -> None:
    """One task, from its registration to its evaluation."""
    before, task = f"round-{number - 1}", f"round-{number}"
    generator.register(task, before)
    handed_in = sum(task in phone.work("digits", "linear", before) for phone in phones)
    generator.ask("PUT", f"/v1/flea/tasks/{task}", {"active": False})
    generator.ask("POST", f"/v1/flea/tasks/{task}/aggregate")
    generator.until(task, "aggregated")
    generator.ask("POST", f"/v1/flea/tasks/{task}/evaluate", {"dataset": "test"})
    generator.until(task, "evaluated")
    found = generator.ask("GET", f"/v1/flea/tasks/{task}/evaluation")
    scores = [
        f"{each['checkpointId']} {each['metrics']['accuracy']:.3f}"
        for each in (found["aggregated"], *found["checkpoints"])
    ]
    print(f"{task}: {handed_in} phones; accuracy {', before '.join(scores)}", flush=True)


def prepare(folder: Path, test: digits.Share) -> list[str]:
    """The test set as a dataset of the node, a model with nothing learned, and a token for each program."""
    folder.mkdir(parents=True, exist_ok=True)
    digits.write_csv(test, folder / "test.csv")
    kind = ("--tag", "#digits", "--target", "digit", "--visibility", "public")
    told(folder, "dataset", "add", str(folder / "test.csv"), "--name", "test", *kind)
    grid.Plan.linear(64, 10, metrics=["accuracy"]).save(folder / "plan.safetensors")
    tokens = [secrets.token_urlsafe(24) for _ in range(PHONES + 1)]
    lines = [f"{'FleaClient' if number else 'FleaTaskGen'} {token}" for number, token in enumerate(tokens)]
    (folder / "tokens").write_text("\n".join(lines))
    return tokens


def told(folder: Path, *words: str) -> None:
    """A command of the node's owner."""
    subprocess.run((*NODE, *words, "--data", str(folder / "node")), check=True, stdout=subprocess.DEVNULL)


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The node; its address."""
    words = ("start", "--port", "0", "--data", str(folder / "node"), "--tokens", str(folder / "tokens"))
    with (folder / "log").open("w") as log:
        node = subprocess.Popen((*NODE, *words), stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert node.stdout is not None
            yield node.stdout.readline().removeprefix("listening on").strip()
        finally:
            node.terminate()
            node.wait(timeout=30)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
