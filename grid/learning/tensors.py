"""The safetensors layout: 8 bytes of length, a JSON header, then the tensors' bytes one after the other.

Only the header is read here, so a daemon can check a model without numpy. Stricter than the format: a
header with a key twice, a gap or an overlap has no second reading that somebody else could sign.

Source: https://github.com/huggingface/safetensors (format section).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from grid.wire.problems import TensorsRefused

ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
MAX_HEADER = 1 << 20
MAX_TENSORS = 4096
MAX_RANK = 8
MAX_BYTES = 1 << 40
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a tensor is, without its values. `dtype` as safetensors spells it: F32, I64, BOOL."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


class Slot(NamedTuple):
    """Where a tensor lies in the data section: bytes `begin` to `end`."""

    spec: TensorSpec
    begin: int
    end: int


class Layout:
    """Which tensors a data section holds, in which order, without gaps. Wide types first, so all are aligned.

    `slots` and `specs` are in the order of the bytes, `by_name` finds a slot, `size` is the length in bytes.
    """

    def __init__(self, specs: Iterable[TensorSpec]) -> None:
        ordered = sorted((_checked(spec) for spec in specs), key=lambda spec: -ITEM_BYTES[spec.dtype])
        if len(ordered) > MAX_TENSORS:
            raise TensorsRefused(f"{len(ordered)} tensors; at most {MAX_TENSORS} are taken")
        slots, begin = [], 0
        for spec in ordered:
            slots.append(Slot(spec, begin, begin + spec.size))
            begin += spec.size
        self.slots = tuple(slots)
        self.specs = tuple(ordered)
        self.by_name = {slot.spec.name: slot for slot in slots}
        self.size = begin
        if begin > MAX_BYTES:
            raise TensorsRefused(f"{begin} bytes of tensors; at most {MAX_BYTES} are taken")
        if len(self.by_name) != len(slots):
            raise TensorsRefused("two tensors share a name")

    def require(self, expected: Layout) -> None:
        """Nothing but the expected tensors, in the expected order.

        Raises:
            TensorsRefused: a name, shape or dtype differs; the detail says which.
        """
        if self.specs == expected.specs:
            return
        mine, theirs = self.by_name, expected.by_name
        for name in theirs.keys() - mine.keys():
            raise TensorsRefused(f"tensor {name!r} is missing")
        for name in mine.keys() - theirs.keys():
            raise TensorsRefused(f"tensor {name!r} was not declared")
        for name, slot in theirs.items():
            if mine[name].spec != slot.spec:
                raise TensorsRefused(f"declared was {slot.spec}, here is {mine[name].spec}")
        raise TensorsRefused("the tensors are in another order than declared")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.specs == other.specs

    def __hash__(self) -> int:
        return hash(self.specs)

    def __repr__(self) -> str:
        return f"Layout({len(self.slots)} tensors, {self.size} bytes)"


def header_bytes(layout: Layout, metadata: Mapping[str, str] | None = None) -> bytes:
    """All that stands before the data section: length and header, padded to a multiple of 8 bytes."""
    entries: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    for spec, begin, end in layout.slots:
        entries[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise TensorsRefused(f"the header is {len(text)} bytes; at most {MAX_HEADER} are taken")
    return len(text).to_bytes(8, "little") + text


def data_offset(prefix: bytes | bytearray | memoryview) -> int:
    """Where the data section begins, told by the first 8 bytes: so much must be read to know the header."""
    if len(prefix) < 8:
        raise TensorsRefused("too short to hold a header")
    length = int.from_bytes(bytes(prefix[:8]), "little")
    if not 2 <= length <= MAX_HEADER:
        raise TensorsRefused(f"a header of {length} bytes; between 2 and {MAX_HEADER} are taken")
    return 8 + length


def read_header(prefix: bytes | bytearray | memoryview, total: int | None = None) -> tuple[Layout, dict[str, str], int]:
    """Read what stands before the data section; `total` is the length of the whole file, if it is known.

    Returns layout, metadata, and where the data section begins.

    Raises:
        TensorsRefused: not the layout, out of its limits, or data too short or too long for `total`.
    """
    offset = data_offset(prefix)
    if len(prefix) < offset:
        raise TensorsRefused("the header is cut off")
    entries = strict_json(bytes(prefix[8:offset]))
    if not isinstance(entries, dict):
        raise TensorsRefused("the header is not an object")
    metadata = _metadata(entries.pop(_METADATA, {}))
    if len(entries) > MAX_TENSORS:
        raise TensorsRefused(f"{len(entries)} tensors; at most {MAX_TENSORS} are taken")
    layout = _contiguous([_slot(name, entry) for name, entry in entries.items()])
    if total is not None and total != offset + layout.size:
        raise TensorsRefused(f"{total - offset} bytes of tensors where {layout.size} were announced")
    return layout, metadata, offset


def strict_json(data: bytes) -> Any:
    """JSON with one reading only: UTF-8, no key twice, no NaN or infinity, no number that overflows.

    Raises:
        TensorsRefused: anything else.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_no_key_twice, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise TensorsRefused(f"not strict JSON: {error}") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key stands twice")
    return entries


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _metadata(found: object) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise TensorsRefused("metadata must map text to text")
    try:
        "".join([*found, *found.values()]).encode()
    except UnicodeEncodeError:
        raise TensorsRefused("half a character in the metadata") from None
    return found


def _slot(name: str, entry: Any) -> Slot:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise TensorsRefused(f"{name!r} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise TensorsRefused(f"the dtype of {name!r} must be text")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise TensorsRefused(f"shape and data_offsets of {name!r} must be lists of whole numbers")
    return Slot(_checked(TensorSpec(name, dtype, tuple(shape))), *offsets)


def _whole_numbers(found: object) -> bool:
    return isinstance(found, list) and all(type(n) is int and 0 <= n <= MAX_BYTES for n in found)


def _checked(spec: TensorSpec) -> TensorSpec:
    if not 0 < len(spec.name) <= 256 or not spec.name.isprintable() or spec.name == _METADATA:
        raise TensorsRefused(f"a tensor cannot be named {spec.name[:40]!r}")
    if spec.dtype not in ITEM_BYTES:
        raise TensorsRefused(f"{spec.name!r} has dtype {spec.dtype[:20]!r}; known are {', '.join(ITEM_BYTES)}")
    if len(spec.shape) > MAX_RANK or any(not 0 <= n <= MAX_BYTES for n in spec.shape):
        raise TensorsRefused(f"{spec.name!r} has a shape out of bounds: {list(spec.shape)[: MAX_RANK + 1]}")
    return spec


def _contiguous(slots: list[Slot]) -> Layout:
    """The layout of slots that fill the data section without gap or overlap, each aligned to its type."""
    slots.sort(key=lambda slot: (slot.begin, slot.end))
    layout = Layout(slot.spec for slot in slots)
    if layout.slots != tuple(slots):
        raise TensorsRefused("tensors must fill the data without gap or overlap, wide types first")
    return layout
