"""Evidence to Arrow and back: a frozen dataclass is a struct, field by field, without loss."""

import dataclasses
import types
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
SCALARS = {float: "float64", int: "int64", str: "string", bool: "bool_"}
"""Python scalar -> the name of what makes its Arrow type."""


@lru_cache
def arrow_type(annotation: Any) -> "pa.DataType":
    """Return the Arrow type of a scalar, `tuple[X, ...]`, `X | None` or dataclass annotation.

    Raises:
        TypeError: the annotation has no Arrow form here.
    """
    import pyarrow as pa

    if annotation in SCALARS:
        return getattr(pa, SCALARS[annotation])()
    if dataclasses.is_dataclass(annotation):
        hints = _hints(annotation)  # type: ignore[arg-type]
        return pa.struct([(f.name, arrow_type(hints[f.name])) for f in dataclasses.fields(annotation)])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return pa.list_(arrow_type(arguments[0]))
    if origin is types.UnionType:
        return arrow_type(_not_none(arguments))
    raise TypeError(f"no Arrow type for {annotation!r}; use float, int, str, bool, tuple[X, ...] or a dataclass")


def to_struct(value: Any) -> Any:
    """Return plain Python values for Arrow: dataclasses become dicts, tuples become lists."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_struct(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_struct(element) for element in value]
    return value


def from_struct(annotation: type[T], value: Any) -> T:
    """Return what `to_struct` was given: the inverse, guided by the annotation."""
    struct: T = _from(annotation, value)
    return struct


def _from(annotation: Any, value: Any) -> Any:
    if value is None or annotation in SCALARS:
        return value
    if dataclasses.is_dataclass(annotation):
        hints = _hints(annotation)  # type: ignore[arg-type]
        assert isinstance(value, Mapping)
        return annotation(**{f.name: _from(hints[f.name], value[f.name]) for f in dataclasses.fields(annotation)})  # type: ignore[operator]
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple:
        return tuple(_from(arguments[0], element) for element in value)
    return _from(_not_none(arguments), value)


_hints = lru_cache(get_type_hints)


def _not_none(arguments: tuple[Any, ...]) -> Any:
    return next(argument for argument in arguments if argument is not types.NoneType)
