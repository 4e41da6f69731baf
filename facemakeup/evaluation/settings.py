"""An evaluation as a file: which photos, which protocol, whose pictures, which judges."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from curation.errors import RecipeError, UsageError
from curation.recipe.validation import read_toml, validated
from facemakeup.evaluation.generators.checkpoints import CheckpointSource
from facemakeup.evaluation.generators.settings import GeneratorSettings
from facemakeup.evaluation.networks import NetworkSource
from facemakeup.evaluation.protocol import ProtocolName
from facemakeup.faces.recognisers import DLIB, INSIGHTFACE, MOBILEFACENET, recogniser_names
from facemakeup.inference.generate import FaceFinder
from filters.base import Settings

PLACES = frozenset({"source", "file", "adapter", "recogniser_file", "base", "image_encoder"})
"""Keys, at any depth, whose files and folders are looked for beside the configuration first."""


class SetSettings(Settings):
    """The reference photos."""

    name: str = Field(min_length=1)
    """`Unsplash-Face` or `FaceCaption` sets the published rows beside ours; any other name stands alone."""
    manifest: str = Field(min_length=1)
    """CSV, see `facemakeup.evaluation.reference_set`; relative to the configuration."""
    calibration: str | None = None
    """Another manifest, of people with several photos each, for the recognisers' own means; None takes the set."""
    training_index: str | None = None
    """`index.parquet` of the pack that a method was trained on, or a ledger: references found in it are named."""
    training_identities: str | None = None
    """Folder `identities-...` of a training's cache: people of it who are nearest to references are named. Its
    recogniser must be among those that judge."""


class MethodSettings(Settings):
    """One method: pictures that were made elsewhere, or what draws them now."""

    name: str = Field(min_length=1)
    images: str | None = None
    """Folder with a picture per case, named as `facemakeup.evaluation.protocol` says; relative to the configuration."""
    generator: GeneratorSettings | None = None
    """What draws the pictures; they are kept beside the table."""
    recogniser: str | None = None
    """Catalogue name of the recogniser that conditions pictures made elsewhere; a score by the very same one is
    flagged."""
    facts: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """What made them: checkpoint and sha256, base, native size, sampler, steps, guidance, scales, prompt as fed, ..."""

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.images is None) == (self.generator is None):
            raise ValueError(f"{self.name}: name either `images`, a folder, or `generator`, what draws them")
        if self.generator is not None and self.recogniser is not None:
            raise ValueError(f"{self.name}: a generator says itself which recogniser conditions it")
        return self


class JudgeSettings(Settings):
    """Where networks lie that no catalogue offers; a column whose network is not named needs it."""

    clip: NetworkSource | None = None
    """`openai/clip-vit-base-patch16`, for the published CLIP-I."""
    dino: NetworkSource | None = None
    """`facebook/dino-vits16`."""
    vlm: NetworkSource | None = None
    """`Qwen/Qwen2-VL-7B-Instruct`."""
    fid_inception: CheckpointSource | None = None
    celeba_attributes: CheckpointSource | None = None
    """Files in the place of what `models add` confirms under these names."""
    recognisers: tuple[str, ...] = (MOBILEFACENET, DLIB, INSIGHTFACE)
    """Of `facemakeup.faces.recognisers`; the two held-out ones judge in any case."""
    compat_recogniser: str = INSIGHTFACE
    """Whose score is also computed as the reference does."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = recogniser_names()
        unknown = [name for name in (*self.recognisers, self.compat_recogniser) if name not in known]
        if unknown:
            raise ValueError(f"recognisers {unknown} are unknown; choose of {', '.join(known)}")
        return self


class EvaluationSettings(Settings):
    """Everything that a table depends on."""

    note: str = ""
    """Said above the table."""
    protocol: ProtocolName = "P1"
    set: SetSettings
    methods: tuple[MethodSettings, ...] = Field(min_length=1)
    """The first is the one that the others are compared with."""
    judges: JudgeSettings = JudgeSettings()
    faces: FaceFinder = FaceFinder()
    """Who finds the faces in every picture."""
    device: str = "cpu"

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [method.name for method in self.methods]
        if len(set(names)) < len(names):
            raise ValueError(f"methods are named more than once: {names}")
        return self


def asked_for(config: Path | None, out: Path | None, judges: str) -> bool:
    """Whether only the judges are asked for: without `out` there is no table.

    Raises:
        UsageError: `judges` is unknown, or a table is asked for of nothing.
    """
    if judges not in ("all", "here"):
        raise UsageError(f"--judges {judges!r} is unknown; choose all or here")
    if out is not None and config is None:
        raise UsageError("--out needs an evaluation: name its file, such as configs/evaluation/unsplash-face.toml")
    return out is None


def load_evaluation(path: Path) -> EvaluationSettings:
    """Read and validate an evaluation.

    Raises:
        RecipeError: the file is missing, is not TOML, or a key of it does not hold.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such evaluation; configs/evaluation/unsplash-face.toml is one")
    return validated(EvaluationSettings, _resolved(read_toml(path), path.parent), str(path), "")


def _resolved(value: Any, root: Path, key: str = "") -> Any:
    """Return a configuration whose places that lie beside it are named whole; others, as names of the hub, stay."""
    if isinstance(value, dict):
        return {name: _resolved(inner, root, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, root) for inner in value]
    if key in PLACES and isinstance(value, str) and (root / value).exists():
        return str((root / value).resolve())
    return value
