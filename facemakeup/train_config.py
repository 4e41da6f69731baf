"""The tables of a training configuration: everything that a run will do, in TOML, closed to keys it does not know."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from curation.errors import RecipeError
from curation.recipe.settings import DecodeLimits
from curation.recipe.validation import read_toml, validated
from curation.storage.publish import digest
from facemakeup.config import DROP_TABLES, DropTable, ModelConfig
from filters import faces
from filters.base import Settings, TableSettings

GIB = 1 << 30
LATER: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"optim": {"timesteps": "base", "timestep_mean": None, "guidance": 1.0}}
)
"""Settings that earlier releases lacked, with the value that is what they did: it changes no digest."""


class DataSettings(Settings):
    """What is read, in which order, and what becomes of samples that cannot be used."""

    global_batch: int = Field(default=64, ge=1)
    """Samples of one optimiser step over all ranks and accumulation steps."""
    micro_batch: int = Field(default=8, ge=1)
    """Samples that one rank takes through the network at once; accumulation follows from it."""
    block: int = Field(default=1000, ge=1)
    """Neighbouring samples that are shuffled as one; for remote tars, the number of samples of a shard."""
    window: int = Field(default=16, ge=1)
    """Blocks whose samples are mixed; so many shards are read at a time."""
    num_workers: int = Field(default=4, ge=0)
    """Reading processes of each rank; changes nothing but speed."""
    cache_gib: float = Field(default=64.0, gt=0)
    """Largest size of the local folder that remote shards are fetched into, GiB per machine."""
    max_fault_fraction: float = Field(default=0.01, ge=0, le=1)
    """A run stops when more than this share of the samples cannot be used."""
    min_faults: int = Field(default=20, ge=0)
    """So many unusable samples never stop a run."""
    decode: DecodeLimits = DecodeLimits()
    """What a picture may claim before it is decoded."""


class CropSettings(Settings):
    """Which part of a picture is trained on."""

    mode: Literal["face", "full"] = "face"
    """`face` is a square around the face; `full` the whole picture, in buckets of like shape."""
    size: int = Field(default=512, ge=16, multiple_of=8)
    """Side of the square, or of the square whose area the buckets have, pixels."""
    factor: float = Field(default=1.5, ge=1.0, le=10.0)
    """Side of the window around a face, in longer sides of its box (mode `face`)."""
    max_aspect: float = Field(default=2.0, ge=1.0)
    """Most extreme bucket, longer side over shorter (mode `full`)."""
    bucket_step: int = Field(default=64, ge=8, multiple_of=8)
    """Sides of buckets are multiples of this, pixels (mode `full`)."""
    flip_probability: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of pictures that are mirrored, landmarks with them; captions that say left or right are not changed."""


class FaceSettings(Settings):
    """How faces become identity vectors; whose, says the model."""

    accept_noncommercial: bool = False
    """Set by someone who has read the recogniser's terms and accepts them."""


class CacheSettings(Settings):
    """Sidecar tars of what is costly to compute."""

    folder: str | None = None
    """Where `facecaptionhq cache` put them; none computes everything on the way."""
    latent_dtype: Literal["float16", "float32"] = "float16"
    """Precision of cached latents; float32 is bit for bit what the VAE gives."""
    faces: bool = True
    """Whether aligned faces are kept, too (150 KB each at CLIP's 224 px), so that nothing needs to be decoded."""
    batch: int = Field(default=8, ge=1)
    """Pictures that the VAE takes at once where caches are filled."""


class ReferenceSettings(Settings):
    """Which photo tells the network who is on a picture; without these, the picture itself."""

    people: str | None = None
    """A Parquet or CSV file with the columns `uid` and `person`: photos of one person may stand for one another."""
    share: float = Field(default=1.0, ge=0, le=1)
    """Share of the samples that another photo of the person stands for, where there is one."""
    augment: bool = False
    """Whether an independently augmented view of its face stands for a sample that no other photo does."""


class RegionLoss(Settings):
    """Errors in the face count more than those around it."""

    weight: float = Field(gt=0)
    """How many times as much as elsewhere; the mean weight of a picture is 1, whatever the face's size."""
    shape: Literal["box", "ellipse", "mask"] = "ellipse"
    """The face's box, the ellipse in it, or a member `.mask` of the sample, a PNG of grey (else the ellipse)."""


class AttentionLoss(Settings):
    """Words of a caption that name a part of the face are attended to from there, as in arXiv 2510.21775."""

    weight: float = Field(default=1e-3, gt=0)
    """What is multiplied with the squared errors, added up over the attentions; the published one is 0.001."""


class IdentityLoss(Settings):
    """A recogniser looks at what the network takes a picture for where little noise is left."""

    weight: float = Field(default=0.1, gt=0)
    """What one minus the cosine is multiplied with."""
    max_noise: float = Field(default=0.25, gt=0, le=1)
    """Share of the way to noise up to which it is asked; beyond, what the network says is no face yet."""


class LossSettings(Settings):
    """What is added to the loss of denoising; nothing, unless a table of it is there."""

    region: RegionLoss | None = None
    attention: AttentionLoss | None = None
    identity: IdentityLoss | None = None


class OptimSettings(Settings):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    num_steps: int = Field(default=530_000, ge=1)
    """Optimiser steps of the whole run."""
    num_warmup_steps: int = Field(default=1000, ge=0)
    """Steps over which the learning rate rises from zero."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What the learning rate does after warmup; `cosine` and `linear` end at zero."""
    max_gradient_norm: float | None = Field(default=1.0, gt=0)
    """Gradients of larger norm are scaled down to it; none leaves them."""
    min_snr_gamma: float | None = Field(default=None, gt=0)
    """Weighs timesteps by min(snr, gamma); none weighs them alike, as published."""
    timesteps: Literal["base", "uniform", "logit-normal"] = "base"
    """How often each is met: as in the base's own training, all alike, or as the sigmoid of a normal number."""
    timestep_mean: float | None = None
    """Mean of that number, larger towards noise; none takes what the base's schedule says for the size of a picture."""
    guidance: float = Field(default=1.0, gt=0)
    """What a network that takes guidance as a condition is told in training."""
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    """Decay of the moving average of the trainables; 0 keeps none."""
    ema_warmup: bool = True
    """Whether the decay after n steps is at most (1 + n) / (10 + n), so that the untrained weights are forgotten."""


class RunSettings(Settings):
    """How it runs: none of these changes what is computed, beyond rounding."""

    precision: Literal["fp32", "bf16"] = "bf16"
    """What frozen parts and autocast are in on a GPU; trainables are fp32 always, and on a CPU everything is."""
    gradient_checkpointing: bool = False
    """Computes activations twice to hold fewer of them."""
    compile: bool | Literal["blocks"] = False
    """Hands the network and PoseNet to torch.compile: whole, or block by block, which takes a fraction of the time."""
    tf32: bool = True
    """Whether a GPU may round the factors of float32 products to TF32 (10 bits): the VAE's and the trainables'."""
    channels_last: bool = True
    """Whether a GPU keeps weights of convolutions with their channels innermost, as its fastest kernels want them."""
    cudnn_benchmark: bool = True
    """Whether a GPU tries several kernels for every new shape of a convolution, and keeps the fastest."""
    fsdp: bool = False
    """Shards trainables, gradients and optimiser over the ranks (FSDP2) instead of copying them (DDP)."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of the log; nothing is fetched from the device in between."""
    max_nonfinite_in_a_row: int = Field(default=10, ge=1)
    """So many steps in a row whose gradient is not finite stop the run; each alone is left out and counted."""


class CheckpointSettings(Settings):
    """When the state of a run is written, and how much of it stays."""

    every: int = Field(default=2000, ge=1)
    """Steps between two checkpoints."""
    keep: int = Field(default=3, ge=2)
    """Newest checkpoints that stay; at least two, so that a torn one has a predecessor."""


class ValidationSettings(TableSettings):
    """What is looked at on the way."""

    LATER: ClassVar[frozenset[str]] = frozenset({"patience", "patience_for", "guidance_scale", "apart"})

    every: int = Field(default=2000, ge=1)
    """Steps between two validations."""
    num_samples: int = Field(default=64, ge=1)
    """Samples of the validation set."""
    data: tuple[str, ...] = ()
    """Patterns of tars that it is taken from; else it is taken from those of the training, which leaves it out."""
    choice: Literal["keyed", "first"] = "keyed"
    """Which samples: spread over the index by a fixed key, or its first, as releases up to 0.2.0 took them."""
    apart: Literal["people", "photos"] = "people"
    """What training never sees: these samples and, where `reference.people` tells, all others of the people on them; or
    these samples alone."""
    num_timesteps: int = Field(default=8, ge=1)
    """Fixed timesteps (i + 0.5) / n, at each of which the loss is taken."""
    num_references: int = Field(default=4, ge=0)
    """Rows of the image grid; 0 draws none."""
    prompts: tuple[str, ...] = ("a person wearing a red hat", "a person standing in a park")
    scales: tuple[float, ...] = (0.5, 1.0)
    """Strengths of the face, one column per prompt and scale."""
    num_inference_steps: int = Field(default=30, ge=1)
    guidance_scale: float | None = Field(default=None, ge=0)
    """None takes what the base is drawn with."""
    facesim: bool = True
    """Whether faces are looked for in the pictures of the grid, and compared with the reference's."""
    detector: faces.Measure = faces.Measure(detector="centerface", weights="centerface")
    """Who looks for them."""
    patience: int | None = Field(default=None, ge=1)
    """Validations in a row without a better one that end the run; none goes on to the last step."""
    patience_for: str = "validation/loss"
    """What has to get better, by its name in the log: a loss by falling, all else (`validation/facesim_at_1`) by
    rising."""

    @property
    def digest(self) -> str:
        """Hex digest of all that decides its numbers: those of other settings are not compared with them."""
        return digest(self.model_dump(mode="json", exclude={"every", "patience", "patience_for"}))


class TrackingSettings(Settings):
    """Where a run's numbers and pictures go, beside `log.jsonl`."""

    to: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)
    wandb_project: str = Field(default="facemakeup", min_length=1)
    wandb_mode: Literal["offline", "online"] = "offline"
    """`offline` writes to OUT/wandb alone, for `wandb sync`; `online` sends numbers and settings to a server."""
    wandb_pictures: bool = False
    """Whether grids, on which people of the data are, go there, too."""


class TrainConfig(TableSettings):
    """One training run.

    Example:
        config = TrainConfig(name="mine", model=ModelConfig(base="my-base", recogniser=recogniser))
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"reference", "losses", "tracking"})

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seed: int = Field(default=0, ge=0, lt=2**31)
    model: ModelConfig
    data: DataSettings = DataSettings()
    crop: CropSettings = CropSettings()
    faces: FaceSettings = FaceSettings()
    cache: CacheSettings = CacheSettings()
    drop: Literal["recommended", "reference"] | DropTable = "recommended"
    """How often conditions are dropped: a preset, or a table of its own."""
    reference: ReferenceSettings = ReferenceSettings()
    losses: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    run: RunSettings = RunSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    validation: ValidationSettings = ValidationSettings()
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.losses.attention and (self.run.compile or self.run.fsdp):
            raise ValueError("losses.attention looks into attentions, which run.compile and run.fsdp do not let it")
        of_grid = self.validation.scales if self.validation.facesim and self.validation.num_references else ()
        known = ("validation/loss", "validation/loss_of_last", *(f"validation/facesim_at_{s:g}" for s in of_grid))
        if self.validation.patience_for not in known:
            raise ValueError(f"validation.patience_for: no validation has {self.validation.patience_for}; {known} are")
        if self.validation.patience and self.validation.every % self.checkpoint.every:
            raise ValueError(
                f"validation.every {self.validation.every} is no multiple of checkpoint.every {self.checkpoint.every}: "
                f"with validation.patience the best validation's checkpoint is kept, so there must be one"
            )
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        warmup, last = self.optim.num_warmup_steps, self.optim.num_steps
        if warmup > last:
            raise ValueError(
                f"optim.num_warmup_steps {warmup} is more than num_steps {last}: the learning rate would never be "
                f"reached; warm up over {last} steps at most"
            )
        return self

    @model_validator(mode="after")
    def _batches_fit(self) -> Self:
        if self.data.global_batch % self.data.micro_batch:
            raise ValueError(
                f"data.global_batch {self.data.global_batch} is no multiple of micro_batch {self.data.micro_batch}"
            )
        return self

    @property
    def drop_table(self) -> DropTable:
        """The drop table in force."""
        return DROP_TABLES[self.drop] if isinstance(self.drop, str) else self.drop

    @property
    def decisive(self) -> dict[str, Any]:
        """All settings that decide what is computed, beyond rounding."""
        left_out = {"run", "checkpoint", "validation", "tracking", "cache", "faces", "name"}
        settings = self.model_dump(mode="json", exclude=left_out)
        settings.get("reference", {}).pop("people", None)  # where it lies; what it says is part of the data
        for key in ("num_workers", "cache_gib", "micro_batch", "max_fault_fraction", "min_faults"):
            settings["data"].pop(key)
        for table, before in LATER.items():
            settings[table] = {key: value for key, value in settings[table].items() if value != before.get(key, ...)}
        held_out = self.validation.model_dump(include={"num_samples", "choice"}) if not self.validation.data else None
        return {**settings, "validation": held_out, "drop": self.drop_table.model_dump(mode="json")}

    @property
    def digest(self) -> str:
        """Hex digest of the decisive settings; a checkpoint of others is not resumed."""
        return digest(self.decisive)


def load_config(path: Path) -> TrainConfig:
    """Read and validate a training configuration.

    Example:
        config = load_config(Path("configs/train/sd15.toml"))

    Raises:
        RecipeError: the file is missing, is not TOML, or a key of it does not hold.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such training configuration; configs/train/sd15.toml is one")
    return config_of(read_toml(path), str(path))


def config_of(values: Mapping[str, Any], where: str) -> TrainConfig:
    """Validate a training configuration that was read from `where`.

    Raises:
        RecipeError: a key does not hold.
    """
    return validated(TrainConfig, values, where, "")
