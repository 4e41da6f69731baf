"""Writes captions with a model of `transformers` in this process: the same question as an endpoint is asked.

Weights come as safetensors only, and no code of a repository is run. A worker keeps the model for all its shards.
"""

import io
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curation.commands.caption.reply import NobodyThereError, Reply, storable
from curation.errors import UsageError
from curation.recipe.captioning import CaptioningSettings
from filters.loading import single_thread


class LocalModel:
    """An image-to-text model, loaded."""

    num_at_once = 1

    def __init__(self, settings: CaptioningSettings, device: str) -> None:
        """Load it, or take the one that this process has loaded already."""
        self._settings, self._is_closed = settings, False
        self._processor, self._model = _loaded(settings.model, settings.revision, device)

    def ask(self, picture: bytes) -> Reply:
        """Return what it says of a JPEG."""
        import torch
        from PIL import Image

        settings, sampling = self._settings, {}
        if settings.temperature > 0:
            torch.manual_seed(settings.seed)
            sampling = {"temperature": settings.temperature}
        with Image.open(io.BytesIO(picture)) as image, torch.inference_mode():
            inputs = self._inputs(image.convert("RGB")).to(self._model.device)
            (tokens,) = self._model.generate(
                **inputs,
                max_new_tokens=settings.max_tokens,
                do_sample=settings.temperature > 0,
                stopping_criteria=[lambda ids, _: torch.full((len(ids),), self._is_closed, device=ids.device)],
                **sampling,
            )
        new = _without_prompt(tokens.tolist(), inputs)
        text = self._processor.batch_decode([new], skip_special_tokens=True)[0]
        finish = "length" if len(new) >= settings.max_tokens else "stop"
        return Reply(storable(text), None, settings.model, finish, 1)

    def close(self) -> None:
        """End a reply that is being written; the next shard of this process takes the model."""
        self._is_closed = True

    def _inputs(self, image: Any) -> Any:
        if getattr(self._processor, "chat_template", None):
            content = [{"type": "image", "image": image}, {"type": "text", "text": self._settings.prompt}]
            return self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
            )  # fmt: skip
        return self._processor(images=image, text=self._settings.prompt, return_tensors="pt")


def require_transformers() -> None:
    """Make sure that there is such a library.

    Raises:
        UsageError: there is not.
    """
    if find_spec("transformers") is None:
        raise UsageError("caption.via = 'transformers' needs that library: pip install 'facecaptionhq[train]'")


@lru_cache(maxsize=1)
def _loaded(name: str, revision: str, device: str) -> tuple[Any, Any]:
    """Return processor and model; a folder has no revision but the one that the recipe states."""
    require_transformers()
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    single_thread()
    torch.set_num_threads(1)
    at = {} if Path(name).is_dir() else {"revision": revision}
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=False, **at)
        model = AutoModelForImageTextToText.from_pretrained(name, trust_remote_code=False, use_safetensors=True, **at)
    except (OSError, ValueError, KeyError) as error:
        what = " ".join(str(error).split())[:500]
        raise NobodyThereError(f"caption.model {name!r} at {revision!r} cannot be loaded: {what}") from error
    return processor, model.to(device).eval()


def _without_prompt(tokens: list[int], inputs: Any) -> list[int]:
    """Return what a model wrote: those that only write on give the question back first."""
    asked = inputs["input_ids"][0].tolist() if "input_ids" in inputs else []
    return tokens[len(asked) :] if asked and tokens[: len(asked)] == asked else tokens
