"""A phone with three apps that knows HTTP and a password: a FLaaS client to read."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import numpy as np

from grid.learning.joint import Mode, learn_jointly
from grid.learning.tensors import Layout, TensorSpec

APPS = ("Red", "Green", "Blue")
PIXELS, CLASSES = 64, 10
RATE, BATCH = 0.5, 16
LAYOUT = Layout([TensorSpec("numbers", "F32", (CLASSES * PIXELS + CLASSES,))])
"""The model: a matrix, then what is added to each digit's score."""

Numbers = np.ndarray[Any, np.dtype[np.float32]]
Samples = tuple[Numbers, Numbers]
"""Scans (n, 64) and their digits (n)."""


class Phone:
    """One device, `name`, of the server at `address`."""

    def __init__(self, address: str, name: str, password: str) -> None:
        self.address, self.name, self.token = address, name, ""
        pair = self.tell("POST", "/api/token/", {"username": name, "password": password})
        self.token = pair["access"]
        self.apps: list[Samples] = []
        self.handed_in: list[tuple[bytes, int]] = []

    def fetch_samples(self, kind: str) -> None:
        """Each app's samples: rows of 64 pixels and a digit, float32."""
        for app in APPS:
            rows = np.frombuffer(self.ask("GET", f"/api/get-samples/{kind}/{app}/"), "<f4").reshape(-1, PIXELS + 1)
            self.apps.append((rows[:, :PIXELS], rows[:, PIXELS].astype(int)))

    def ping(self) -> None:
        """It is plugged in; nothing else is told."""
        said = {"request_type": "device-ping", "device_info": {"battery_status": {"power_plugged": True}}}
        self.tell("POST", "/api/report-availability", said)

    def work(self, project: int, number: int) -> None:
        """Join a round, train, hand in, and say what was measured."""
        base = f"/api/project/{project}"
        told = self.tell("GET", f"{base}/join-round/{number}/?status=1")
        model = self.ask("GET", f"{base}/get-model/{number}/")
        self.tell("GET", f"{base}/join-round/{number}/?status=3")
        update, samples = self.learn(Mode(told["training_mode"]), model, told["number_of_epochs"])
        self.handed_in.append((update, samples))
        self.ask("POST", f"{base}/submit-model/{number}/model_weights.bin?samples={samples}", update, "octet-stream")
        losses = {"local_training_worker": {"epochs": [loss(update, app) for app in self.apps]}}
        self.ask("POST", f"{base}/submit-results/{number}/performance.json", json.dumps(losses).encode(), "json")
        self.tell("GET", f"{base}/join-round/{number}/?status=6")

    def learn(self, mode: Mode, model: bytes, epochs: int) -> tuple[bytes, int]:
        """The apps learn by themselves and the phone averages, or one learns with the samples of all."""

        def fit(start: Any, apps: Any) -> bytes:
            return trained(bytes(start), np.vstack([a[0] for a in apps]), np.concatenate([a[1] for a in apps]), epochs)

        made = learn_jointly(mode, LAYOUT, model, self.apps, fit, lambda app: len(app[1]))
        return bytes(made.model), made.samples

    def tell(self, method: str, path: str, said: Any = None) -> Any:
        """Say something, and read the answer, as JSON."""
        answer = self.ask(method, path, None if said is None else json.dumps(said).encode(), "json")
        return json.loads(answer) if answer else None

    def ask(self, method: str, path: str, data: bytes | None = None, kind: str = "json") -> bytes:
        """What the server answers."""
        url = path if path.startswith("http") else self.address + path
        request = urllib.request.Request(url, data, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if data is not None:
            request.add_header("Content-Type", f"application/{kind}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


def trained(model: bytes, scans: Numbers, digits: Any, epochs: int) -> bytes:
    """Softmax regression by stochastic gradient descent."""
    matrix, bias = opened(model)
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(digits))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            slope = chances(matrix, bias, scans[rows])
            slope[np.arange(len(rows)), digits[rows]] -= 1
            matrix -= np.float32(RATE / len(rows)) * (slope.T @ scans[rows])
            bias -= np.float32(RATE / len(rows)) * slope.sum(axis=0)
    return matrix.tobytes() + bias.tobytes()


def opened(model: bytes) -> tuple[Numbers, Numbers]:
    """The matrix (10, 64) and the bias (10)."""
    flat = np.frombuffer(model, "<f4").copy()
    return flat[: CLASSES * PIXELS].reshape(CLASSES, PIXELS), flat[CLASSES * PIXELS :]


def chances(matrix: Numbers, bias: Numbers, scans: Numbers) -> Numbers:
    """How likely each digit is, for each scan."""
    scores = scans @ matrix.T + bias
    found = np.exp(scores - scores.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def loss(model: bytes, samples: Samples) -> float:
    """The mean cross-entropy."""
    found = chances(*opened(model), samples[0])
    return float(-np.log(found[np.arange(len(found)), samples[1]] + 1e-9).mean())


def accuracy(model: bytes, samples: Samples) -> float:
    """The share of scans whose digit is found."""
    return float((chances(*opened(model), samples[0]).argmax(axis=1) == samples[1]).mean())
