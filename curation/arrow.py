"""Evidence to Arrow and back: a frozen dataclass is a struct, field by field, without loss."""

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
Convert = Callable[[Any], Any]
SCALARS = {float: "float64", int: "int64", str: "string", bool: "bool_"}
"""Python scalar -> the name of what makes its Arrow type."""
_TYPES = {scalar: frozenset({scalar, int} if scalar is float else {scalar}) for scalar in SCALARS}


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
        hints = get_type_hints(annotation)
        return pa.struct([(f.name, arrow_type(hints[f.name])) for f in dataclasses.fields(annotation)])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return pa.list_(arrow_type(arguments[0]))
    if origin is types.UnionType:
        return arrow_type(_not_none(arguments))
    raise TypeError(f"no Arrow type for {annotation!r}; use float, int, str, bool, tuple[X, ...] or a dataclass")


def to_struct(value: Any) -> Any:
    """Return a dataclass as plain Python values for Arrow: dataclasses become dicts, tuples lists; None stays."""
    kind: Any = type(value)
    return value if value is None else _writer(kind)(value)


def from_struct(annotation: type[T], value: Any) -> T:
    """Return what `to_struct` was given: the inverse, guided by the annotation; None stays.

    Raises:
        KeyError: a field is missing.
        TypeError: a value is not of its field's type.
    """
    kind: Any = annotation
    return cast(T, value if value is None else _reader(kind)(value))


@lru_cache
def _writer(annotation: Any) -> Convert:
    """Return what makes plain values of an annotation; made once, since a run has millions of evidences."""
    if annotation in SCALARS:
        return _same
    if not dataclasses.is_dataclass(annotation):
        return _of_parts(annotation, _writer, list)
    writers = _by_field(annotation, _writer)
    return lambda value: {name: write(getattr(value, name)) for name, write in writers}


@lru_cache
def _reader(annotation: Any) -> Convert:
    """Return what makes an annotation's values of plain ones, and refuses plain values of another type."""
    if annotation in SCALARS:
        return lambda value: _of_type(annotation, (value,))[0]
    if get_origin(annotation) is tuple and get_args(annotation)[0] in SCALARS:
        return partial(_of_type, get_args(annotation)[0])
    if not dataclasses.is_dataclass(annotation):
        return _of_parts(annotation, _reader, tuple)
    readers = _by_field(annotation, _reader)

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"a value for each field of {annotation!r} was expected: {value!r:.80}")
        return annotation(**{name: read_field(value[name]) for name, read_field in readers})  # type: ignore[operator]

    return read


def _of_type(scalar: type, values: Iterable[Any]) -> tuple[Any, ...]:
    """Return scalars of one type; an int is a float too, as Arrow has it, but a bool is no int."""
    found = tuple(values)
    if not _TYPES[scalar].issuperset(map(type, found)):
        raise TypeError(f"values of type {scalar.__name__} were expected: {found!r:.80}")
    return found


def _by_field(annotation: Any, convert: Callable[[Any], Convert]) -> list[tuple[str, Convert]]:
    hints = get_type_hints(annotation)
    return [(field.name, convert(hints[field.name])) for field in dataclasses.fields(annotation)]


def _of_parts(annotation: Any, convert: Callable[[Any], Convert], sequence: Callable[[Any], Any]) -> Convert:
    """Return what converts the elements of a tuple into another sequence, or a value that may be None, or nothing."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        element = convert(arguments[0])
        return sequence if element is _same else lambda values: sequence(map(element, values))
    if origin is types.UnionType:
        inner = convert(_not_none(arguments))
        return lambda value: None if value is None else inner(value)
    return _same


def _same(value: Any) -> Any:
    return value


def _not_none(arguments: tuple[Any, ...]) -> Any:
    return next(argument for argument in arguments if argument is not types.NoneType)
