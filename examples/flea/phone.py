"""A phone that knows HTTP, zip and the safetensors layout, and nothing of this project: a Flea client to read."""

from __future__ import annotations

import io
import json
import urllib.request
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

Model = dict[str, np.ndarray[Any, Any]]
EPOCHS, RATE, BATCH = 5, 0.5, 16


class Phone:
    """One client of a Flea server at `address`, with its own `token` and its own `scans` (n, 64) and `digits` (n)."""

    def __init__(self, address: str, token: str, scans: np.ndarray[Any, Any], digits: np.ndarray[Any, Any]) -> None:
        self.address, self.token, self.scans, self.digits = address, token, scans, digits

    def work(self, model: str, hyperparameters: str, checkpoint: str) -> list[str]:
        """Do what there is to do for a checkpoint: the names of the tasks that an update was handed in for."""
        query = f"modelId={model}&hyperparametersId={hyperparameters}&checkpointId={checkpoint}"
        found = json.loads(self.get(f"{self.address}/v1/flea/tasks?{query}"))
        for task, path in found["tasks"].items():
            about = json.loads(self.get(found["repositoryBaseUrl"] + path))
            weights, header = read_tensors(self.get(about["link"]))
            started = json.loads(self.get(f"{self.address}/v1/flea/tasks/{task}", method="POST"))
            learn(weights, self.scans, self.digits)
            said = {
                "taskId": task,
                "numSamples": len(self.digits),
                "taskParameters": {"numEpochs": EPOCHS, "batchSize": BATCH, "placeholders": None},
                "deviceInfo": {"deviceType": "example", "osVersion": "1", "tensorIOVersion": "none"},
            }
            self.get(started["uploadTo"], method="PUT", data=zipped(weights, header, said), type="application/zip")
        return list(found["tasks"])

    def get(self, url: str, method: str = "GET", data: bytes | None = None, type: str = "") -> bytes:  # noqa: A002
        """What the server answers."""
        request = urllib.request.Request(url, data, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        if type:
            request.add_header("Content-Type", type)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())


def read_tensors(data: bytes) -> tuple[Model, dict[str, Any]]:
    """The float32 tensors of a safetensors file, by name, and its header."""
    size = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:size])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[size + entry["data_offsets"][0] : size + entry["data_offsets"][1]], np.float32)
        .reshape(entry["shape"])
        .copy()
        for name, entry in header.items()
    }, header


def zipped(weights: Model, header: Mapping[str, Any], said: Mapping[str, Any]) -> bytes:
    """A result: what was learned, in the places where it was, and a word about it."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    ordered = sorted(header, key=lambda name: header[name]["data_offsets"])
    data = b"".join(weights[name].astype(np.float32).tobytes() for name in ordered)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("result.json", json.dumps(said))
        archive.writestr("checkpoints/model.safetensors", len(text).to_bytes(8, "little") + text + data)
    return target.getvalue()


def learn(weights: Model, scans: np.ndarray[Any, Any], digits: np.ndarray[Any, Any]) -> None:
    """Softmax regression by stochastic gradient descent, in place; the wide tensor is the matrix (10, 64)."""
    matrix, bias = sorted(weights.values(), key=lambda values: -values.ndim)
    rng = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = rng.permutation(len(digits))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            scores = scans[rows] @ matrix.T + bias
            chances = np.exp(scores - scores.max(axis=1, keepdims=True))
            chances /= chances.sum(axis=1, keepdims=True)
            chances[np.arange(len(rows)), digits[rows]] -= 1
            matrix -= RATE / len(rows) * (chances.T @ scans[rows])
            bias -= RATE / len(rows) * chances.sum(axis=0)
