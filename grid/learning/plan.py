"""The plan as its users see it: a recipe and the numbers to start from, in one file.

That file, the bundle, is a safetensors file whose metadata holds the recipe as JSON. Nothing in it is code.
"""

from __future__ import annotations

import hashlib
import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from grid.learning import presets
from grid.learning.recipe import OPTIMIZERS, Dp, Graph, Loss, Metric, Optimizer, Recipe, Schedule, Transform
from grid.learning.tensors import MAX_HEADER, header_bytes, read_header, strict_json
from grid.learning.validate import held_by, trained_by, validate
from grid.wire.problems import PlanRefused, TensorsRefused

if TYPE_CHECKING:
    from typing import Unpack

    import torch

RECIPE = "grid-plan"  # the metadata entry that holds the recipe
MAX_BUNDLE = 4 << 30
_CODE = {  # first bytes of formats whose loaders run what they read
    b"\x80": "a pickle (torch.save, joblib)",
    b"PK\x03\x04": "a zip archive (torch.save, torch.export, TorchScript, npz)",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
}


class Settings(TypedDict, total=False):
    """How to train; what is left out is the recipe's default. `optimizer` is a name or an optimizer itself."""

    loss: Graph | Loss
    metrics: Sequence[Metric]
    optimizer: str | Optimizer
    lr: float
    schedule: Schedule
    epochs: int
    steps: int
    batch: int
    clip: float
    seed: int
    transform: Transform | None
    minimum_examples: int
    dp: Dp | None


class Plan:
    """A training plan, checked: the recipe, and the first values of its tensors, by name.

    `layout` is what travels each round: parameters and running statistics. Constants stay in the bundle, which holds
    `held`.
    """

    def __init__(self, recipe: Recipe, values: Mapping[str, bytes | memoryview]) -> None:
        validate(recipe)
        self.recipe = recipe
        self.layout = trained_by(recipe)
        self.values = dict(values)
        self.held = held_by(recipe)
        for spec in self.held.specs:
            if len(self.values.get(spec.name, b"")) != spec.size:
                raise TensorsRefused(f"the values of {spec} are missing or of another length")

    @property
    def initial(self) -> bytes:
        """The first values of what is trained: the data section of `layout`."""
        return b"".join(self.values[spec.name] for spec in self.layout.specs)

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        names = (entry.name for entry in self.recipe.model.named("param"))
        return sum(math.prod(self.layout.by_name[name].spec.shape) for name in names)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bundle, in hex: the plan's name."""
        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(part)
        return digest.hexdigest()

    def bundle(self) -> bytes:
        """The plan as one file."""
        return b"".join(self._parts())

    def save(self, path: str | Path) -> Path:
        """Write the bundle to a file; any safetensors library can read it."""
        path = Path(path)
        with path.open("wb") as file:
            file.writelines(self._parts())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a bundle from a file. Raises as `from_bundle`; OSError if there is none."""
        return cls.from_bundle(Path(path).read_bytes())

    def _parts(self) -> Iterator[bytes | memoryview]:
        yield self._header
        yield from (self.values[spec.name] for spec in self.held.specs)

    @cached_property
    def _header(self) -> bytes:
        return header_bytes(self.held, {RECIPE: self.words})

    @property
    def words(self) -> str:
        """The recipe as JSON."""
        return msgspec.json.encode(self.recipe, order="deterministic").decode()

    @classmethod
    def from_bundle(cls, data: bytes | memoryview) -> Plan:
        """Read and check a bundle; nothing of it runs. The plan's values are views of `data`.

        Raises:
            PlanRefused: not a bundle, or a rule of the format is broken.
            TensorsRefused: the tensors are not what the recipe declares.
        """
        refuse_code(bytes(data[:8]))
        if len(data) > MAX_BUNDLE:
            raise PlanRefused(f"a bundle of {len(data)} bytes; at most {MAX_BUNDLE} are taken")
        layout, metadata, offset = read_header(data, total=len(data))
        if metadata.keys() != {RECIPE}:
            raise PlanRefused(f"the metadata of a bundle is {RECIPE!r} and nothing else")
        body = memoryview(data)[offset:]
        values = {slot.spec.name: body[slot.begin : slot.end] for slot in layout.slots}
        plan = cls(read_recipe(metadata[RECIPE]), values)
        layout.require(plan.held)
        plan._header = bytes(data[:offset])  # the bytes that were signed, not an encoding of ours
        return plan

    @classmethod
    def linear(cls, features: int, outputs: int, **settings: Unpack[Settings]) -> Plan:
        """One linear layer: (B, features) to (B, outputs)."""
        return cls._of(*presets.linear(features, outputs, settings.get("seed", 0)), settings)

    @classmethod
    def mlp(cls, sizes: Sequence[int], **settings: Unpack[Settings]) -> Plan:
        """Linear layers with ReLU between them: (B, sizes[0]) to (B, sizes[-1])."""
        return cls._of(*presets.mlp(sizes, settings.get("seed", 0)), settings)

    @classmethod
    def cnn(
        cls,
        image: tuple[int, int, int],
        outputs: int,
        *,
        channels: Sequence[int] = (16, 32),
        hidden: int = 64,
        **settings: Unpack[Settings],
    ) -> Plan:
        """3x3 convolutions with pooling, then two linear layers; `image` is (channels, height, width), fed flat."""
        return cls._of(*presets.cnn(image, outputs, channels, hidden, settings.get("seed", 0)), settings)

    @classmethod
    def capture(
        cls,
        module: torch.nn.Module,
        example: torch.Tensor | tuple[torch.Tensor, ...],
        *,
        loss: str | Callable[..., Any] = "cross_entropy",
        target: torch.Tensor | None = None,
        **settings: Any,
    ) -> Plan:
        """Any torch module whose computation does not depend on its data. Needs torch, on this side only.

        `example` is one batch of inputs; `loss` a name or a function (output, target) to a scalar, for
        which `target` is one batch of targets. The module itself is left as it is.

        Raises:
            CaptureFailed: the module cannot become a plan; the detail says why and what to do.
        """
        from grid.learning.capture import capture  # torch is needed here only

        graph, loss_graph, values = capture(module, example, loss, target)
        return cls._of(graph, values, {**settings, "loss": loss_graph})  # type: ignore[typeddict-item]

    @classmethod
    def _of(cls, model: Graph, values: Mapping[str, bytes], settings: Settings) -> Plan:
        loss = settings.get("loss", "cross_entropy")
        return cls(_apply(Recipe(model=model, loss=loss), settings), values)

    def with_(self, **settings: Unpack[Settings]) -> Plan:
        """The same plan with other settings."""
        return Plan(_apply(self.recipe, settings), self.values)

    def trained(self, data: bytes | memoryview) -> Plan:
        """The same plan, starting from `data`: the data section of `layout`, as a run left it."""
        learned = {slot.spec.name: memoryview(data)[slot.begin : slot.end] for slot in self.layout.slots}
        return Plan(self.recipe, {**self.values, **learned})

    def rows(self) -> list[tuple[str, str]]:
        """What a person wants to know first: pairs of a word and what it is here."""
        recipe = self.recipe
        loss = recipe.loss if isinstance(recipe.loss, str) else f"own, {len(recipe.loss.nodes)} operations"
        inputs = ", ".join(f"{entry.name} {list(entry.shape)}" for entry in recipe.model.named("input"))
        amount = f"{recipe.steps} steps" if recipe.steps else f"{recipe.epochs} epochs"
        dp = recipe.dp
        batch = f"{dp.rate:g} of the records in each" if dp else f"batch {recipe.batch}"
        optimizer = msgspec.to_builtins(recipe.optimizer)
        return [
            ("input", inputs),
            ("operations", str(len(recipe.model.nodes))),
            ("parameters", f"{self.parameters:,}"),
            ("loss", loss),
            ("optimizer", f"{optimizer['name']}, lr {recipe.optimizer.lr:g}"),
            ("each round", f"{amount}, {batch}"),
            *([("private", f"records clipped at {dp.clip:g}, noise {dp.noise:.4g}")] if dp else []),
            ("digest", self.digest[:12]),
        ]

    def __repr__(self) -> str:
        return "Plan\n" + "\n".join(f"  {word:<11} {value}" for word, value in self.rows())

    def _repr_html_(self) -> str:
        cells = (f"<tr><th>{word}</th><td>{html.escape(value)}</td></tr>" for word, value in self.rows())
        return f"<table>{''.join(cells)}</table>"


def refuse_code(first: bytes) -> None:
    """Say what it is, where it is a well-known format and no header of ours could begin so."""
    if int.from_bytes(first, "little") <= MAX_HEADER:
        return
    for magic, what in _CODE.items():
        if first.startswith(magic):
            raise PlanRefused(f"this is {what}, which can run code when it is loaded; send a plan instead")


def read_recipe(text: str) -> Recipe:
    """The recipe in the header of a bundle. Raises PlanRefused."""
    try:
        return msgspec.convert(strict_json(text.encode()), Recipe)
    except (msgspec.ValidationError, TensorsRefused) as error:
        raise PlanRefused(f"the recipe cannot be read: {error}") from None


def _apply(recipe: Recipe, settings: Settings) -> Recipe:
    changes: dict[str, Any] = dict(settings)
    chosen = changes.pop("optimizer", recipe.optimizer)
    if isinstance(chosen, str):
        if chosen not in OPTIMIZERS:
            raise PlanRefused(f"no optimizer {chosen!r}; there are {', '.join(OPTIMIZERS)}")
        chosen = OPTIMIZERS[chosen]()
    if "lr" in changes:
        chosen = msgspec.structs.replace(chosen, lr=changes.pop("lr"))
    if "metrics" in changes:
        changes["metrics"] = tuple(changes["metrics"])
    try:  # through plain data, so that a wrong type is refused here and not at a node
        made = msgspec.structs.replace(recipe, optimizer=chosen, **changes)
        return msgspec.convert(msgspec.to_builtins(made), Recipe)
    except (TypeError, msgspec.ValidationError) as error:
        raise PlanRefused(str(error)) from None
