"""Phones learn handwritten digits by FLaaS's HTTP alone: `python examples/phones/fleet.py FOLDER [PHONES] [ROUNDS]`.

Starts a node in FOLDER; makes accounts with its commands, 200 phones of three apps unless told otherwise, and a project
that runs to its last round. Then all rounds are summed by the kernel's mean in this process, and the first one is done
once more as a Flea task and as a PyGrid process: all of them have to come to the same model.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from phone import APPS, LAYOUT, Phone, accuracy

import grid
from grid.cli import digits
from grid.learning.aggregation import WeightedMean
from grid.learning.joint import Mode
from grid.learning.tensors import header_bytes

NODE = (sys.executable, "-m", "grid.cli.node")
KIND, MODE, EPOCHS = "NonIID", Mode.JOINT_MODELS, 20
PLAN = grid.Plan.linear(64, 10, metrics=["accuracy"])
TEST = 450
"""Scans that no phone has."""
AT_ONCE = 8


def main(folder: Path, count: int, rounds: int) -> None:
    scans = digits.load()
    test, train = samples(scans[:TEST]), scans[TEST:]
    PLAN.save(made(folder) / "plan.safetensors")
    write_samples(folder / "node" / "samples" / KIND, train, count)
    digits.write_csv(scans[:TEST], folder / "test.csv")
    with running(folder) as address, ThreadPoolExecutor(AT_ONCE) as pool:
        printed = told(folder, "flaas", "createusers", str(count), "--prefix", "phone").splitlines()[1:]
        password = told(folder, "user", "add", "ann", "--role", "Administrator").strip()
        told(folder, "model", "add", "digits", "linear", "start", str(folder / "plan.safetensors"))
        told(folder, "model", "allow", "digits", "ann")
        ann = Phone(address, "ann", password)
        phones = list(pool.map(lambda line: Phone(address, *line.split(", ")[:2]), printed))
        project = start(ann, rounds)
        print(told(folder, "flaas", "assign", str(project), "--prefix", "phone"), end="", flush=True)
        each(pool, phones, lambda phone: phone.fetch_samples(KIND))
        each(pool, phones, Phone.ping)
        carry_out(pool, ann, phones, project, rounds)
        final = ann.ask("GET", f"/api/project/{project}/get-model/{rounds}/")
        tables(folder, project)
        print(f"FLaaS: {count} phones, {rounds} rounds, accuracy {accuracy(final, test):.3f}", flush=True)
        by_kernel(ann, phones, project, rounds, test)
        by_flea(pool, ann, phones, project)
        by_pygrid(pool, ann, phones, project)


def start(ann: Phone, rounds: int) -> int:
    """A project in which the apps of each phone train by themselves, and the phone averages."""
    asked = {
        "title": "Digits",
        "model": "digits",
        "dataset": "digits",
        "dataset_type": KIND,
        "training_mode": MODE,
        "number_of_rounds": rounds,
        "number_of_epochs": EPOCHS,
        "responses_ratio_threshold": 1.0,
        "status": "In Progress",
    }
    return int(ann.tell("POST", "/api/project/", asked)["id"])


def carry_out(pool: ThreadPoolExecutor, ann: Phone, phones: Sequence[Phone], project: int, rounds: int) -> None:
    """Each round begins with a call, which any device can hear, and ends when all have handed in."""
    cursor, done = 0, 0
    while done < rounds:
        heard = ann.tell("GET", f"/api/project/{project}/events?after={cursor}&wait=20")
        cursor = heard["after"]
        for event in heard["events"]:
            if event["kind"] == "train":
                began, number = time.monotonic(), event["data"]["round"]
                each(pool, phones, lambda phone, number=number: phone.work(project, number))  # type: ignore[misc]
                print(f"round {number}: {len(phones)} phones in {time.monotonic() - began:.1f} s", flush=True)
            done += event["kind"] == "complete"


def by_kernel(ann: Phone, phones: Sequence[Phone], project: int, rounds: int, test: Any) -> None:
    """What the kernel's mean makes of what the phones handed in, round by round, against what the node made."""
    worst, model = 0.0, b""
    for number in range(rounds):
        mean, into = WeightedMean(LAYOUT), bytearray(LAYOUT.size)
        for phone in phones:
            mean.add(*phone.handed_in[number])
        mean.result_into(into)
        model = ann.ask("GET", f"/api/project/{project}/get-model/{number + 1}/")
        worst = max(worst, apart(into, model))
    print(f"kernel: accuracy {accuracy(bytes(into), test):.3f}, at most {worst:.1e} apart", flush=True)


def by_flea(pool: ThreadPoolExecutor, ann: Phone, phones: Sequence[Phone], project: int) -> None:
    """The first round once more, as a Flea task for the same checkpoint: committed to, handed in, summed, evaluated."""
    task, model = "digits-by-flea", {"modelId": f"fleet-{project}", "hyperparametersId": "rounds"}
    asked = {**model, "taskId": task, "checkpointId": "round-0", "deadline": int(time.time()) + 3600, "active": True}
    ann.tell("POST", "/v1/flea/create_task", asked)
    each(pool, phones, lambda phone: hand_in(phone, task))
    ann.tell("PUT", f"/v1/flea/tasks/{task}", {"active": False})
    ann.tell("POST", f"/v1/flea/tasks/{task}/aggregate")
    until(ann, task, "aggregated")
    ann.tell("POST", f"/v1/flea/tasks/{task}/evaluate", {"dataset": "test"})
    until(ann, task, "evaluated")
    found = ann.tell("GET", f"/v1/flea/tasks/{task}/evaluation")["aggregated"]
    path = f"/v1/models/fleet-{project}/variants/rounds/checkpoints/{found['checkpointId']}/file"
    summed = ann.ask("GET", path)[-LAYOUT.size :]
    difference = apart(summed, ann.ask("GET", f"/api/project/{project}/get-model/1/"))
    print(f"Flea: accuracy {found['metrics']['accuracy']:.3f} after one round, {difference:.1e} apart", flush=True)


def by_pygrid(pool: ThreadPoolExecutor, ann: Phone, phones: Sequence[Phone], project: int) -> None:
    """The first round once more, as a PyGrid process: its devices report differences, and are strangers to the node."""
    start = ann.ask("GET", f"/api/project/{project}/get-model/0/")
    process = {
        "model": (header_bytes(LAYOUT) + start).hex(),
        "plans": {"training_plan": {"list": b"as the phones do".hex()}},
        "client_config": {"name": "digits", "version": "1.0"},
        "server_config": {"min_diffs": len(phones), "max_diffs": len(phones), "num_cycles": 1, "cycle_length": 3600},
    }
    ann.tell("POST", "/model-centric/host-training", process)
    each(pool, phones, lambda phone: report(phone, start))
    path = "/model-centric/retrieve-model?name=digits&version=1.0&checkpoint="
    while (summed := ann.ask("GET", f"{path}latest")) == ann.ask("GET", f"{path}1"):
        time.sleep(0.2)
    difference = apart(summed[-LAYOUT.size :], ann.ask("GET", f"/api/project/{project}/get-model/1/"))
    print(f"PyGrid: {difference:.1e} apart after one round", flush=True)


def report(phone: Phone, start: bytes) -> None:
    """What the phone handed in for the first round, as PyGrid wants it: the model less what was learned."""
    named = {"model_name": "digits", "model_version": "1.0"}
    worker = phone.tell("POST", "/model-centric/authenticate", named)["worker_id"]
    said = {"worker_id": worker, "model": "digits", "version": "1.0"}
    key = phone.tell("POST", "/model-centric/cycle-request", said)["request_key"]
    less = np.frombuffer(start, "<f4") - np.frombuffer(phone.handed_in[0][0], "<f4")
    diff = base64.b64encode(header_bytes(LAYOUT) + less.tobytes()).decode()
    phone.tell("POST", "/model-centric/report", {"worker_id": worker, "request_key": key, "diff": diff})


def hand_in(phone: Phone, task: str) -> None:
    """What the phone handed in for the first round, as Flea wants it."""
    started = phone.tell("POST", f"/v1/flea/tasks/{task}")
    update, count = phone.handed_in[0]
    said = {
        "taskId": task,
        "numSamples": count,
        "taskParameters": {"numEpochs": EPOCHS, "batchSize": 16, "placeholders": None},
        "deviceInfo": {"deviceType": "example", "osVersion": "1", "tensorIOVersion": "none"},
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("result.json", json.dumps(said))
        archive.writestr("model.safetensors", header_bytes(PLAN.layout) + update)
    phone.ask("PUT", started["uploadTo"], target.getvalue(), "zip")


def until(ann: Phone, task: str, state: str) -> None:
    """Wait for what happens to a task."""
    cursor = 0
    while True:
        heard = ann.tell("GET", f"/v1/tasks/{task}/events?after={cursor}&wait=20")
        cursor = heard["after"]
        if any(event["kind"] == state for event in heard["events"]):
            return


def apart(one: bytes | bytearray, other: bytes) -> float:
    """The greatest difference of two models' numbers."""
    return float(np.abs(np.frombuffer(bytes(one), "<f4") - np.frombuffer(other, "<f4")).max())


def samples(scans: Sequence[digits.Scan]) -> tuple[Any, Any]:
    """Scans and their digits, as arrays."""
    return np.array([s.pixels for s in scans], np.float32), np.array([s.digit for s in scans])


def write_samples(folder: Path, scans: Sequence[digits.Scan], count: int) -> None:
    """A shard for each app of each phone, all of one size, where the node looks for them."""
    apps = count * len(APPS)
    scans = scans[: len(scans) // apps * apps]
    for number in range(apps):
        path = made(folder / str(number // len(APPS)) / APPS[number % len(APPS)]) / "samples.bin"
        path.write_bytes(np.array([(*s.pixels, s.digit) for s in scans[number::apps]], "<f4").tobytes())


def tables(folder: Path, project: int) -> None:
    """What the commands of FLaaS say."""
    for command in ("performance_multirounds", "joinedrounds", "roundstats"):
        lines = told(folder, "flaas", command, str(project)).splitlines()
        print(f"$ grid-node flaas {command} {project}", *(line[:100] for line in lines[:8]), sep="\n", flush=True)


def each(pool: ThreadPoolExecutor, phones: Sequence[Phone], work: Callable[[Phone], None]) -> None:
    """All phones do something, some of them at once."""
    for _ in pool.map(work, phones):
        pass


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def told(folder: Path, *words: str) -> str:
    """What a command of the node's owner says."""
    done = subprocess.run(
        (*NODE, *words, "--data", str(folder / "node")), check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The node, with a test set; its address."""
    kind = ("--tag", "#digits", "--target", "digit", "--visibility", "public")
    told(folder, "dataset", "add", str(folder / "test.csv"), "--name", "test", *kind)
    words = ("start", "--port", "0", "--data", str(folder / "node"))
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
    main(Path(sys.argv[1]), *(int(word) for word in (sys.argv[2:] + ["200", "5"][len(sys.argv) - 2 :])))
