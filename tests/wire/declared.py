"""All endpoints, and values of any message made from its declaration."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as mi

from grid.wire import directory, documents, node, runs, session
from grid.wire.endpoint import Endpoint
from grid.wire.message import Document, Message

MODULES = (directory, documents, node, runs, session)


def _declared(module: ModuleType, kind: type) -> list[Any]:
    return [value for value in vars(module).values() if isinstance(value, kind)]


ENDPOINTS: list[Endpoint[Any, Any]] = [each for module in MODULES for each in _declared(module, Endpoint)]
MESSAGES: list[type[msgspec.Struct]] = [
    each
    for module in MODULES
    for each in _declared(module, type)
    if issubclass(each, (Message, Document)) and each.__module__ == module.__name__
]
ROLES = {"gateway": (directory, session), "node": (node, runs, session)}


def endpoints_of(role: str) -> list[Endpoint[Any, Any]]:
    """The endpoints that a daemon of this role may answer."""
    return [each for module in ROLES[role] for each in _declared(module, Endpoint)]


@cache
def values(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Values that a declaration allows."""
    return _values(mi.type_info(kind))


def _values(info: mi.Type) -> st.SearchStrategy[Any]:
    match info:
        case mi.Metadata(type=inner):
            return _values(inner)
        case mi.StrType(pattern=str(pattern)):
            longest = info.max_length or 100_000
            return st.from_regex(pattern).filter(lambda text: (info.min_length or 0) <= len(text) <= longest)
        case mi.StrType():
            return st.text(min_size=info.min_length or 0, max_size=min(info.max_length or 20, 20))
        case mi.BytesType():
            least = info.min_length or 0
            return st.binary(min_size=least, max_size=max(least, min(info.max_length or 40, 40)))
        case mi.IntType():
            most = info.lt - 1 if info.lt is not None else info.le if info.le is not None else 2**53
            return st.integers(info.ge or 0, most)
        case mi.FloatType():
            least = info.ge if info.ge is not None else info.gt
            most = info.lt if info.lt is not None else info.le
            return st.floats(
                least,
                most,
                exclude_min=info.gt is not None,
                exclude_max=info.lt is not None,
                allow_nan=False,
                allow_infinity=False,
            )
        case _:
            return _composed(info)


def _composed(info: mi.Type) -> st.SearchStrategy[Any]:  # noqa: C901
    match info:
        case mi.VarTupleType(item_type=item):
            least = info.min_length or 0
            return st.lists(_values(item), min_size=least, max_size=least + 2).map(tuple)
        case mi.TupleType(item_types=items):
            return st.tuples(*map(_values, items))
        case mi.ListType(item_type=item):
            return st.lists(_values(item), max_size=2)
        case mi.DictType(key_type=key, value_type=value):
            return st.dictionaries(_values(key), _values(value), max_size=2)
        case mi.LiteralType(values=literals):
            return st.sampled_from(literals)
        case mi.UnionType(types=types):
            return st.one_of(*map(_values, types))
        case mi.NoneType():
            return st.none()
        case mi.BoolType():
            return st.booleans()
        case mi.AnyType():
            return st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=5)
        case mi.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: _values(field.type) for field in fields})
    raise NotImplementedError(info)
