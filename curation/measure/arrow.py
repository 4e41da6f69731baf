"""Evidence to Arrow and back: a frozen dataclass is a struct, field by field, without loss."""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
Convert = Callable[[Any], Any]
SCALARS = {float: "float64", int: "int64", str: "string", bool: "bool_"}
"""Python scalar -> the name of what makes its Arrow type."""
_MAX_INT = (1 << 63) - 1
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


def evidence_type(evidence: type[Any]) -> "pa.DataType":
    """Return the Arrow struct of an evidence class."""
    annotation: Any = evidence
    return arrow_type(annotation)


def to_struct(value: Any) -> Any:
    """Return a dataclass as plain Python values for Arrow: dataclasses become dicts, tuples lists; None stays."""
    kind: Any = type(value)
    return _writer(kind)(value)


def from_struct(annotation: type[T], value: Any) -> T:
    """Return what `to_struct` was given: the inverse, guided by the annotation; None stays.

    Raises:
        KeyError: a field is missing.
        TypeError: a value is not of its field's type.
        ValueError: Arrow cannot hold it.
    """
    kind: Any = annotation
    return cast(T, value if value is None else _reader(kind)(value))


@lru_cache
def _writer(annotation: Any) -> Convert:
    """Return what makes plain values of an annotation; made once, since a run has millions of evidences."""
    if dataclasses.is_dataclass(annotation):
        writers = _by_field(annotation, _writer)
        return lambda value: {name: write(getattr(value, name)) for name, write in writers}
    if get_origin(annotation) is tuple:
        element = _writer(get_args(annotation)[0])
        return list if element is _same else lambda values: [element(value) for value in values]
    if get_origin(annotation) is types.UnionType:
        return _or_none(_writer(_not_none(get_args(annotation))))
    return _same


@lru_cache
def _reader(annotation: Any) -> Convert:
    """Return what makes an annotation's values of plain ones, and refuses plain values that are none of its."""
    if annotation in SCALARS:
        return lambda value: scalars(annotation, (value,))[0]
    if get_origin(annotation) is tuple:
        kind = get_args(annotation)[0]
        if kind in SCALARS:
            return lambda values: scalars(kind, _listed(values))
        element = _reader(kind)
        return lambda values: tuple([element(value) for value in _listed(values)])
    if get_origin(annotation) is types.UnionType:
        return _or_none(_reader(_not_none(get_args(annotation))))
    readers = _by_field(annotation, _reader)

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"a value for each field was expected: {value!r:.80}")
        fields = {}
        for name, read_field in readers:
            try:
                fields[name] = read_field(value[name])
            except TypeError as error:
                raise TypeError(f"{name}: {error}") from error
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return annotation(**fields)

    return read


def scalars(kind: type, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return values as scalars of one type that Arrow can hold; an int may stand for a float, a bool for nothing else.

    Raises:
        TypeError: a value is of another type.
        ValueError: an int has more than 64 bits, or a text is no Unicode.
    """
    if not _TYPES[kind].issuperset(map(type, values)):
        raise TypeError(f"{kind.__name__} was expected: {values!r:.80}")
    try:
        if kind is float:
            return tuple(map(float, values))
        if kind is int and values and max(map(abs, values)) > _MAX_INT:
            raise OverflowError("more than 64 bits")
        if kind is str:
            "".join(values).encode()
    except (OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"{values!r:.80} cannot be stored: {error}") from error
    return tuple(values)


def _listed(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError(f"a list was expected: {values!r:.80}")
    return values


def _by_field(annotation: Any, convert: Callable[[Any], Convert]) -> list[tuple[str, Convert]]:
    hints = get_type_hints(annotation)
    return [(field.name, convert(hints[field.name])) for field in dataclasses.fields(annotation)]


def _or_none(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _same(value: Any) -> Any:
    return value


def _not_none(arguments: tuple[Any, ...]) -> Any:
    return next(argument for argument in arguments if argument is not types.NoneType)
