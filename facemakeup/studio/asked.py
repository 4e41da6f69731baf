"""What the page asks for: one picture, or a grid of them over one or two scales; plain values, checked as they come."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from facemakeup.inference.generate import DrawRequest
from facemakeup.model.denoise import Sampling, Scales
from filters.base import Settings

MAX_FACES = 8
MAX_PICTURES = 36
MAX_SIDE = 2048
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)]
Scale = Annotated[float, Field(ge=0, le=4, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=-1, le=2, allow_inf_nan=False)]
STYLES = {
    "photo": "",
    "oil painting": "oil painting, visible brush strokes",
    "watercolour": "watercolour, soft edges, paper texture",
    "pencil": "pencil drawing, fine hatching",
    "comic": "comic book illustration, bold outlines",
    "clay": "clay figure, studio light",
}
"""Name of a style -> what is put behind the prompt."""


class Mixed(Settings):
    """A face, and how much of it is in the person who is drawn."""

    face: str = Field(max_length=40)
    """As the server called it."""
    weight: float = Field(ge=0, le=1000, allow_inf_nan=False)


class Axis(Settings):
    """A scale, and the values that it takes from picture to picture."""

    scale: Literal["face", "clip", "pose"]
    values: tuple[Scale, ...] = Field(min_length=1, max_length=MAX_PICTURES)


class Asked(Settings):
    """One drawing."""

    faces: tuple[Mixed, ...] = Field(min_length=1, max_length=MAX_FACES)
    prompt: Text = Field(min_length=1)
    style: str = "photo"
    negative_prompt: Text = ""
    pose: tuple[tuple[Share, Share], ...] | None = Field(default=None, min_length=5, max_length=5)
    """Eyes, nose, corners of the mouth, left before right: x and y in shares of the sides. None: free."""
    scales: Scales = Scales()
    rows: Axis | None = None
    columns: Axis | None = None
    seed: int = Field(default=42, ge=0, le=2**32 - 1)
    steps: int = Field(default=30, ge=1, le=1000)
    guidance: float | None = Field(default=None, ge=0, le=50, allow_inf_nan=False)
    """None takes the base's own."""
    height: int = Field(default=512, ge=8, le=MAX_SIDE)
    width: int = Field(default=512, ge=8, le=MAX_SIDE)
    consent: Text = Field(min_length=1)
    """What the people in the photos agreed to, and how that is known."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.style not in STYLES:
            raise ValueError(f"style {self.style!r} is unknown; choose one of {', '.join(STYLES)}")
        if len(self.cells) > MAX_PICTURES:
            raise ValueError(f"a grid of {len(self.cells)} pictures; {MAX_PICTURES} at most")
        if self.rows and self.columns and self.rows.scale == self.columns.scale:
            raise ValueError(f"rows and columns both change the scale {self.rows.scale!r}")
        return self

    @property
    def cells(self) -> tuple[Scales, ...]:
        """The scales of each picture, row by row."""
        return tuple(
            self.scales.model_copy(update={**down, **across})
            for down in _steps(self.rows)
            for across in _steps(self.columns)
        )

    @property
    def num_columns(self) -> int:
        """How many pictures stand beside one another."""
        return len(self.columns.values) if self.columns else 1

    def requests(self) -> tuple[DrawRequest, ...]:
        """Return what `generate` would be asked for, picture by picture."""
        prompt = ", ".join(filter(None, (self.prompt, STYLES[self.style])))
        return tuple(
            DrawRequest(
                prompts=(prompt,), negative_prompt=self.negative_prompt, mix=tuple(one.weight for one in self.faces),
                scales=scales, sampling=Sampling(num_steps=self.steps, guidance_scale=self.guidance), seed=self.seed,
                height=self.height, width=self.width, consent=self.consent,
            )
            for scales in self.cells
        )  # fmt: skip


def _steps(axis: Axis | None) -> list[dict[str, float]]:
    return [{}] if axis is None else [{axis.scale: value} for value in axis.values]
