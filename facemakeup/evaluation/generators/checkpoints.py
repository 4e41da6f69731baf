"""Published files of weights: from a folder or a pinned commit of the hub, held tensor by tensor against what is built.

Nothing in a file is executed: a pickle is read as tensors alone.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from curation.errors import UsageError
from filters.base import Settings
from filters.weights import sha256_of

State = Mapping[str, Tensor]
Layout = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""
NUM_NAMED = 3


class CheckpointSource(Settings):
    """Where a file of weights lies."""

    file: str = Field(min_length=1)
    """A path, relative to the configuration; with `repository`, its name there."""
    repository: str | None = None
    """Name on the hub."""
    revision: str | None = None
    """Commit of the hub's repository, 40 hex digits."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Expected of the file; None takes any and records what it is."""

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.repository is not None and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError(f"{self.repository}: name the commit too, `revision` is 40 hex digits")
        return self


@dataclass(frozen=True, eq=False)
class MethodCheckpoint:
    """A file that was read, by its parts."""

    path: Path
    sha256: str
    parts: Mapping[str, State]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return one part.

        Raises:
            UsageError: it is not in the file.
        """
        if name not in self.parts:
            raise UsageError(f"{self.path}: has no part {name!r}, but {', '.join(sorted(self.parts)) or 'nothing'}")
        return dict(self.parts[name])

    @property
    def layouts(self) -> dict[str, Layout]:
        """Name of a part -> its layout."""
        return {name: {key: tuple(tensor.shape) for key, tensor in state.items()} for name, state in self.parts.items()}


@contextmanager
def offering(offer: str) -> Iterator[None]:
    """Add to what cannot be had where the published one is had, what it should be, and on which terms."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{error}; {offer}") from error


def fetch_file(place: CheckpointSource) -> Path:
    """Return the file, fetched if need be.

    Raises:
        UsageError: it cannot be had, or its sha256 is another.
    """
    path = Path(place.file) if place.repository is None else _from_hub(place, place.repository)
    if not path.is_file():
        raise UsageError(f"{path}: no such file of weights")
    digest = sha256_of(path.resolve())
    if place.sha256 not in (None, digest):
        raise UsageError(f"{path}: sha256 {digest}, expected {place.sha256}: this is another file")
    return path


def read_checkpoint(place: CheckpointSource) -> MethodCheckpoint:
    """Read a file whose tensors lie in parts: nested, or named `PART.NAME`.

    Raises:
        UsageError: it cannot be had, or holds anything but tensors.
    """
    path = fetch_file(place)
    parts: dict[str, dict[str, Any]] = {}
    for name, value in _values(path).items():
        if isinstance(value, Mapping):
            parts.setdefault(name, {}).update(value)
        else:
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
    odd = [f"{part}.{key}" for part, state in parts.items() for key, t in state.items() if not isinstance(t, Tensor)]
    if odd:
        raise UsageError(f"{path}: {odd[:NUM_NAMED]} are no tensors")
    return MethodCheckpoint(path, sha256_of(path.resolve()), parts)


def layout_of(module: nn.Module) -> Layout:
    """Return names and shapes of all that a module's state holds; it may lie on the meta device."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def count(layout: Layout) -> tuple[int, int]:
    """Return the numbers of tensors and of parameters."""
    sizes = [_size(shape) for shape in layout.values()]
    return len(sizes), sum(sizes)


def require_layout(state: State, expected: Layout, where: str) -> None:
    """Hold a state against what is built, name by name and shape by shape.

    Raises:
        UsageError: anything is missing, unknown or of another shape.
    """
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise UsageError(
            f"{where}: other weights than expected: {len(missing)} missing {missing[:NUM_NAMED]}, "
            f"{len(unknown)} unknown {unknown[:NUM_NAMED]}"
        )
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise UsageError(f"{where}: {name} has shape {tuple(state[name].shape)}, expected {shape}")


def load_strictly(module: nn.Module, state: State, where: str) -> Any:
    """Put a state into a module, all of it and nothing else, in float32, and return the module.

    Raises:
        UsageError: it does not fit.
    """
    require_layout(state, layout_of(module), where)
    module.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return module.eval().requires_grad_(False)


def _values(path: Path) -> Mapping[str, Any]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, UnpicklingError, EOFError) as error:
        raise UsageError(f"{path}: no file of weights, or more than tensors: {error}") from error
    if not isinstance(values, Mapping):
        raise UsageError(f"{path}: holds a {type(values).__name__}, not tensors by name")
    return values


def _from_hub(place: CheckpointSource, repository: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, place.file, revision=place.revision))
    except (OSError, ValueError) as error:
        raise UsageError(f"{repository} at {place.revision}: {place.file} cannot be fetched: {error}") from error


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
