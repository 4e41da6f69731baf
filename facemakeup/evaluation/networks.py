"""CLIP, DINO and the vision-language model, from a folder or from a pinned commit of the hub, each with its sha256."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from curation.errors import UsageError
from facemakeup.evaluation.preprocess import Preprocessing
from facemakeup.evaluation.vlm import MAX_NEW_TOKENS, PROMPT
from facemakeup.faces.align import Floats
from facemakeup.model.pretrained import settle
from filters.base import RgbImage, Settings
from filters.loading import torch_device
from filters.weights import sha256_of

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
POOLER_SEED = 0
CLIP_SIZES = frozenset({151_277_313, 149_620_737, 427_616_513, 427_944_193})
"""Parameters of OpenAI's ViT-B/32, B/16, L/14 and L/14 at 336 px, as transformers counts them."""
DINO_SIZES = frozenset({21_665_664, 21_670_272, 85_798_656, 85_807_872})
"""Parameters of DINO's ViT-S/16, S/8, B/16 and B/8, without a pooling layer."""
VLM_SIZES = frozenset({8_291_375_616})
"""Parameters of Qwen2-VL-7B."""


class NetworkSource(Settings):
    """Where a network lies."""

    source: str = Field(min_length=1)
    """A folder as transformers writes it, or a name on the hub."""
    revision: str | None = None
    """Commit of the hub's repository, 40 hex digits: a name alone may be another network tomorrow."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Expected of `model.safetensors` (of its index, where it lies in parts); None takes any and records what it is."""

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if not Path(self.source).is_dir() and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError(
                f"{self.source} is no folder here; of the hub's, name the commit too: `revision` is 40 hex digits"
            )
        return self


def fetch(place: NetworkSource) -> tuple[Path, Mapping[str, str]]:
    """Return the folder of a network, fetched if need be, and what it is: source, revision, file and sha256.

    Raises:
        UsageError: it cannot be had, holds no weights, or its sha256 is another.
    """
    folder = Path(place.source)
    if not folder.is_dir():
        folder = _from_hub(place)
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise UsageError(f"{folder}: no weights of a network in it ({', '.join(WEIGHTS)})")
    digest = sha256_of(found.resolve())
    if place.sha256 not in (None, digest):
        raise UsageError(f"{found}: sha256 {digest}, expected {place.sha256}: this is another network")
    return folder, {
        "source": place.source, "revision": place.revision or "", "file": found.name, "sha256": digest
    }  # fmt: skip


class ClipNetwork:
    """CLIP's features of pictures and texts."""

    def __init__(self, place: NetworkSource, device: str = "cpu") -> None:
        """Load it; see `fetch` for what is raised."""
        from transformers import AutoTokenizer, CLIPModel

        folder, self.facts = fetch(place)
        self._prepare = Preprocessing.load(folder)
        self._network = settle(_loaded(CLIPModel, folder), torch_device(device))
        self.num_parameters = _num_parameters(self._network)
        self._tokenizer = _loaded(AutoTokenizer, folder)

    def picture(self, rgb: RgbImage) -> dict[str, Floats]:
        """Return `projected`, and `pooled` before the projection."""
        import torch

        pixels = torch.from_numpy(self._prepare(rgb))[None].to(self._network.device)
        with torch.no_grad():
            pooled = self._network.vision_model(pixel_values=pixels).pooler_output
            projected = self._network.visual_projection(pooled)
        return {"projected": _row(projected), "pooled": _row(pooled)}

    def text(self, prompt: str) -> Floats:
        """Return the projected features of a prompt; what is longer than CLIP reads is cut."""
        import torch

        tokens = self._tokenizer(prompt, truncation=True, return_tensors="pt").to(self._network.device)
        with torch.no_grad():
            return _row(self._network.text_projection(self._network.text_model(**tokens).pooler_output))


class DinoNetwork:
    """DINO's features of pictures."""

    def __init__(self, place: NetworkSource, device: str = "cpu") -> None:
        """Load it; see `fetch` for what is raised."""
        import torch
        from transformers import ViTModel

        folder, self.facts = fetch(place)
        self._prepare = Preprocessing.load(folder)
        self._network = settle(_loaded(ViTModel, folder, add_pooling_layer=False), torch_device(device))
        self.num_parameters = _num_parameters(self._network)
        width = self._network.config.hidden_size
        draw = torch.Generator().manual_seed(POOLER_SEED)
        self._pooler = (torch.randn(width, width, generator=draw) * self._network.config.initializer_range).to(
            self._network.device
        )

    def picture(self, rgb: RgbImage) -> dict[str, Floats]:
        """Return `class_token` after the last norm, and `pooled`: that through a random layer and tanh."""
        import torch

        pixels = torch.from_numpy(self._prepare(rgb))[None].to(self._network.device)
        with torch.no_grad():
            token = self._network(pixel_values=pixels).last_hidden_state[:, 0]
        return {"class_token": _row(token), "pooled": _row(torch.tanh(token @ self._pooler.T))}


class VisionLanguageModel:
    """Asks Qwen2-VL, or another model of transformers that takes a picture and a question, how authentic a face is."""

    def __init__(self, place: NetworkSource, device: str = "cpu") -> None:
        """Load it; see `fetch` for what is raised."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        folder, self.facts = fetch(place)
        self._processor = _loaded(AutoProcessor, folder)
        self._network = settle(_loaded(AutoModelForImageTextToText, folder, dtype="auto"), torch_device(device))
        self.num_parameters = _num_parameters(self._network)

    def reply(self, rgb: RgbImage, is_greedy: bool, seed: int) -> str:
        """Return what it says; `compat` samples as its generation config has it, from a seed, `std` is greedy."""
        import torch
        from PIL import Image

        question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}]
        text = self._processor.apply_chat_template(question, add_generation_prompt=True)
        given = self._processor(text=[text], images=[Image.fromarray(rgb)], return_tensors="pt")
        given = given.to(self._network.device)
        options = {"do_sample": False} if is_greedy else {}
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            tokens = self._network.generate(**given, max_new_tokens=MAX_NEW_TOKENS, **options)
        return str(self._processor.batch_decode(tokens[:, given["input_ids"].shape[1] :], skip_special_tokens=True)[0])


def _num_parameters(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _from_hub(place: NetworkSource) -> Path:
    from huggingface_hub import snapshot_download

    try:
        kinds = ["*.json", "*.txt", "*.jinja", "*.safetensors"]
        return Path(snapshot_download(place.source, revision=place.revision, allow_patterns=kinds))
    except (OSError, ValueError) as error:
        raise UsageError(f"{place.source} at {place.revision}: cannot be fetched from the hub: {error}") from error


def _loaded(kind: Any, folder: Path, **options: Any) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: no {kind.__name__} could be loaded from it: {error}") from error


def _row(tensor: Any) -> Floats:
    row: Floats = tensor[0].float().cpu().numpy()
    return row
