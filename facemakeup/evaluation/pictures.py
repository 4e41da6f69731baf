"""The pictures of a method: those of a folder, or drawn now, one file per case, going on where it was interrupted."""

import gc
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from curation.errors import UsageError
from curation.storage.publish import digest, publish
from curation.version import CODE_VERSION
from facemakeup.evaluation.estimate import Failure
from facemakeup.evaluation.generators.base import Facts, Generator, Reference
from facemakeup.evaluation.generators.build import build
from facemakeup.evaluation.protocol import Case, find_picture
from facemakeup.evaluation.settings import MethodSettings
from facemakeup.faults import SampleFaultError
from filters.base import RgbImage
from filters.weights import sha256_of

MISSING = "missing"
LOG = "drawn.jsonl"


@dataclass(frozen=True)
class Made:
    """The pictures of one row, in the order of the cases."""

    name: str
    is_anchor: bool
    pictures: Sequence[Path | Failure]
    facts: Facts
    recogniser: str | None


def made_elsewhere(method: MethodSettings, folder: Path, wanted: Sequence[Case]) -> Made:
    """Return the pictures that lie in a folder."""
    found = [find_picture(folder, case) for case in wanted]
    pictures = [Failure(MISSING) if path is None else path for path in found]
    facts = {**method.facts, **_seen_facts(pictures)}
    return Made(method.name, False, pictures, facts, method.recogniser)


def folder_of(method: MethodSettings, root: Path, wanted: Sequence[Case]) -> Path:
    """Return the folder of pictures that were made elsewhere.

    Raises:
        UsageError: it is none, or holds nothing of the protocol.
    """
    folder = root / (method.images or "")
    if not folder.is_dir():
        raise UsageError(f"{method.name}: {folder} is no folder")
    if not any(find_picture(folder, case) for case in wanted):
        raise UsageError(
            f"{method.name}: {folder} holds not one picture of the protocol; they are called {wanted[0].stem}.png "
            f"(or .jpg, .jpeg, .webp), and so on for every reference"
        )
    return folder


class Studio:
    """Draws methods one after the other, each base once more without its method."""

    def __init__(
        self, folder: Path, wanted: Sequence[Case], references: Mapping[str, Reference | Failure],
        accept_noncommercial: bool, device: str,
    ) -> None:  # fmt: skip
        """Draw into `folder`; `references` are by their photos' keys."""
        self._folder, self._wanted, self._references = folder, wanted, references
        self._accept_noncommercial, self._device = accept_noncommercial, device
        self._bases: set[Any] = set()

    def rows(self, method: MethodSettings, number: int) -> Iterator[Made]:
        """Yield the method's row, and an anchor of its base where no method before it has the same.

        Raises:
            UsageError: a part of the method is not there, or what lies in its folder was drawn otherwise.
        """
        assert method.generator is not None
        generator = build(method.generator, self._accept_noncommercial, self._device)
        folder = self._folder / f"{number:02d}-{re.sub(r'[^A-Za-z0-9.-]+', '-', method.name)}"
        facts = {**generator.facts, "device": self._device, **method.facts}
        yield self._row(method.name, generator, facts, folder, is_base=False)
        base = tuple(generator.facts.get(name) for name in ("base", "vae", "unet", "sampler", "steps", "guidance"))
        if base not in self._bases:
            self._bases.add(base)
            alone = {name: value for name, value in facts.items() if name not in METHOD_ONLY}
            name = f"base of {method.name} alone"
            yield self._row(name, generator, alone, folder.with_name(f"{folder.name}-base"), is_base=True)
        del generator
        _free()

    def _row(self, name: str, generator: Generator, facts: Facts, folder: Path, is_base: bool) -> Made:
        log = _Log(folder, {"facts": dict(facts), "code_version": CODE_VERSION})
        pictures: list[Path | Failure] = []
        for case in self._wanted:
            reference = self._references[case.reference.key]
            fed = generator.fed(case.prompt)
            made_of = digest({"fed": fed, "seed": case.seed, "reference": "" if is_base else case.reference.sha256})
            if is_base:
                pictures.append(log.picture(case.stem, made_of, partial(generator.base_alone, case.prompt, case.seed)))
            elif isinstance(reference, Failure):
                pictures.append(Failure(f"{reference.reason}_in_reference"))
            else:
                drawing = partial(generator.generate, reference, case.prompt, case.seed)
                pictures.append(log.picture(case.stem, made_of, drawing))
        first = self._wanted[0]
        told = {
            **facts,
            "prompt_as_fed": generator.fed(first.prompt),
            "seeds": ", ".join(sorted({str(case.seed) for case in self._wanted})),
            "seconds_per_picture": log.seconds_per_picture,
            **_seen_facts(pictures),
        }
        return Made(name, is_base, pictures, told, None if is_base else generator.recogniser)


METHOD_ONLY = frozenset(
    {"checkpoint", "checkpoint_sha256", "weights", "licence", "scales", "pose", "version", "controlnet",
     "controlnet_weights", "eva_clip_sha256", "face_parser"}
)  # fmt: skip
"""Facts that a base alone has not."""


class _Log:
    """A folder of pictures with a line for each: what it was made of, and how long it took."""

    def __init__(self, folder: Path, made_by: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._folder, own = folder / LOG, folder, digest(made_by)
        first, *entries = _whole_lines(self._path) or [{"made_by": own}]
        if first.get("made_by") != own:
            raise UsageError(f"{folder}: holds pictures that were drawn otherwise; name another folder for the table")
        self._known = {entry["stem"]: entry for entry in entries}
        self._seconds: list[float] = []
        lines = "".join(json.dumps(entry) + "\n" for entry in (first, *entries))
        publish(self._path, lambda path: path.write_text(lines, encoding="utf-8"))

    def picture(self, stem: str, made_of: str, drawing: "partial[RgbImage]") -> Path | Failure:
        """Return the picture's file, drawn now unless it is there as the log says."""
        path, entry = self._folder / f"{stem}.png", self._known.get(stem)
        if entry and entry["made_of"] == made_of and path.is_file() and sha256_of(path) == entry["sha256"]:
            self._seconds.append(entry["seconds"])
            return path
        begun = time.perf_counter()
        try:
            rgb = drawing()
        except SampleFaultError as fault:
            return Failure(fault.reason)
        seconds = round(time.perf_counter() - begun, 3)
        record = publish(path, partial(Image.fromarray(rgb).save, format="PNG"))
        self._append({"stem": stem, "made_of": made_of, "sha256": record.sha256, "seconds": seconds})
        self._seconds.append(seconds)
        return path

    @property
    def seconds_per_picture(self) -> float:
        """Mean over what was drawn, whenever."""
        return round(sum(self._seconds) / len(self._seconds), 3) if self._seconds else 0.0

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return what a log holds, less a line that was cut off as it was written."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _seen_facts(pictures: Sequence[Path | Failure]) -> Facts:
    """Return how many pictures there are and how large they are, as judges see them."""
    files = [path for path in pictures if isinstance(path, Path)]
    return {"pictures": len(files), "scored_size": ", ".join(sorted({_size(path) for path in files}))}


def _size(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            return f"{picture.width}x{picture.height}"
    except OSError:
        return "unreadable"


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
