"""The tables `[caption]` and `[caption.checks]` of a recipe: who writes new captions, and which of them are fit."""

from typing import Literal

from pydantic import Field

from filters.base import Settings


class CaptionChecks(Settings):
    """What a reply must be to be trained on; where these change, the stored replies are judged anew."""

    min_words: int = Field(default=5, ge=1)
    """Fewer words are `too_short`."""
    max_words: int = Field(default=250, ge=1)
    """More are `too_long`."""
    languages: tuple[str, ...] = ("en",)
    """Others are `language`; `unknown` is a text in Latin script that says too little to tell; empty takes all."""
    max_repeats: int = Field(default=2, ge=1)
    """How often the same four words may stand in one caption; beyond it, or if a sentence stands twice, `repeats`."""
    max_same: int = Field(default=10, ge=1)
    """How many pictures of a shard may have one caption; beyond it all of them are `same_for_many`."""
    refuse_personal_data: bool = True
    """Whether an e-mail address or a telephone number is `personal_data`."""
    refuse_contradictions: bool = True
    """Whether a text is refused that says otherwise than the evidence: several people, or nobody, where one face was
    found (`contradicts_faces`); black and white where there is colour (`contradicts_colour`); a drawing where there is
    none (`contradicts_drawn`)."""


class CaptioningSettings(Settings):
    """Who writes a new caption of every curated picture, and how it is asked; without this table nobody is."""

    via: Literal["endpoint", "transformers"] = "endpoint"
    """`endpoint` asks a server that speaks OpenAI's chat completions (vLLM, SGLang, llama.cpp), given by `--endpoint`;
    `transformers` loads the model in the workers."""
    model: str = Field(min_length=1, max_length=300)
    """What the server calls it; of `transformers` a folder, or a name on the Hugging Face hub."""
    revision: str = Field(min_length=1, max_length=200)
    """Which state of it: the commit on the hub, or whatever names what is served; stored with each reply."""
    prompt: str = Field(min_length=1, max_length=20_000)
    """What is asked of every picture."""
    max_tokens: int = Field(default=256, ge=1, le=8192)
    """Tokens of a reply; one that was cut there is `cut_off`."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """0 takes the likeliest word each time."""
    seed: int = Field(default=0, ge=0)
    """Of the draw, where the temperature is above 0."""
    max_side_px: int = Field(default=1024, ge=64, le=8192)
    """Longer side of the picture that is shown: upright, sRGB, a JPEG without metadata."""
    prefer: Literal["old", "new", "better"] = "old"
    """Which caption `pack` takes. `old`: one that came with the picture, if one is fit; `new`: the new one, if it is;
    `better`: of the old one that would be taken and the new one that which says more words, up to
    `captions.enough_words`; the old one where they are even."""
    num_requests: int = Field(default=8, ge=1, le=256)
    """Pictures that each worker has in question at once."""
    timeout_s: float = Field(default=120.0, gt=0.0, le=3600.0)
    """Seconds that one request may take in all."""
    num_retries: int = Field(default=2, ge=0, le=10)
    """How often a picture is asked about again whose failure may pass (no connection, too late, 408, 429, 5xx)."""
    max_retry_fraction: float = Field(default=0.5, ge=0.0, le=10.0)
    """The budget: requests of that kind in a shard, as a share of its pictures, but at least ten."""
    retry_wait_s: float = Field(default=2.0, ge=0.0, le=600.0)
    """Seconds before the first of them; before each further one twice as many, or what `Retry-After` says."""
    max_retry_after_s: float = Field(default=60.0, ge=0.0, le=3600.0)
    """The longest of such waits."""
    max_failed: int = Field(default=3, ge=0)
    """Pictures of a shard that may stay without any reply, whatever its size."""
    max_failed_fraction: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of a shard's pictures that may; beyond both, whoever is asked is at fault, and the shard fails."""
    checks: CaptionChecks = CaptionChecks()


ASKED = frozenset({"via", "model", "revision", "prompt", "max_tokens", "temperature", "seed", "max_side_px"})
"""Keys of `[caption]` that change what is asked; by them a folder of replies is known."""
