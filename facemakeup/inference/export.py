"""Writes a trained adapter in the form that its base gives, which stock diffusers reads, and reads it back.

`facemakeup.safetensors` is flat. Its names may count layers instead of naming them, so what they count is recorded
and checked (`processors`). `controlnet/` is PoseNet. `adapter_config.json` names every file with its sha256.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.errors import UsageError, VerificationError
from curation.recipe.validation import validated
from curation.storage.publish import TEMP_FOLDER, publish_json, sha256_of
from curation.version import CODE_VERSION
from facemakeup.config import NUM_TOKENS, ModelConfig
from facemakeup.faces import posemap
from facemakeup.faces.align import CLIP_CROP_BEFORE
from facemakeup.inference.model_card import model_card
from facemakeup.model import stock
from facemakeup.model.base import WEIGHTS_NAME
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.finite import require_finite

FORMAT_VERSION = 2
MODEL_BEFORE: Mapping[int, Mapping[str, Any]] = {1: {"clip_crop": CLIP_CROP_BEFORE}}
"""Format -> what its model does not say, since there was no choice then."""
ONE_FILE = "1TB"
"""Larger than any PoseNet: all of it stands in `POSENET_NAME`."""
POSENET_FOLDER = "controlnet"
POSENET_NAME = f"{POSENET_FOLDER}/diffusion_pytorch_model.safetensors"
RECORD_NAME = "adapter_config.json"
POSENET_PREFIX = "posenet."


def flat_names(model: FaceMakeUp) -> dict[str, str]:
    """Return the model's own name -> name in the file of every trained tensor but PoseNet's.

    Raises:
        TypeError: the base's form has no place for one.
    """
    trained = [name for name in model.trainable_named_parameters() if not name.startswith(POSENET_PREFIX)]
    names = model.base.flat_names(model.network, trained)
    missing = set(trained) - set(names)
    if missing:
        raise TypeError(f"the flat form has no place for {sorted(missing)[:3]}")
    return names


def export(model: FaceMakeUp, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the adapter to a folder that is not there yet; it appears whole or not at all.

    `facts` (step, average or not, data, ...) go into the record and the card.

    Raises:
        UsageError: the folder is there.
        TypeError: a trainable is not float32.
        NonFiniteError: a weight is not finite; nothing was written then.
    """
    from safetensors.torch import save_file

    if folder.exists():
        raise UsageError(f"{folder}: is there already; name a folder that is not")
    model.require_fp32_trainables()
    require_finite(model.trainable_state(), "the trained weights")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    state = model.trainable_state()
    files: dict[str, dict[str, Tensor]] = {}
    for own, flat in flat_names(model).items():
        files.setdefault(model.base.file_of(flat), {})[flat] = state[own].cpu().contiguous()
    for name, tensors in files.items():
        save_file(tensors, part / name, metadata={"format": "pt"})
    model.posenet.save_pretrained(part / POSENET_FOLDER, max_shard_size=ONE_FILE)
    (part / "README.md").write_text(model_card(model.config, model.base.usage(), facts), encoding="utf-8")
    publish_json(part / RECORD_NAME, _record(model, facts, part))
    shutil.rmtree(part / TEMP_FOLDER, ignore_errors=True)
    part.rename(folder)


def _record(model: FaceMakeUp, facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    files = [*sorted(folder.glob("*.safetensors")), *sorted((folder / POSENET_FOLDER).iterdir())]
    return {
        "format_version": FORMAT_VERSION,
        "code_version": CODE_VERSION,
        "model": model.config.model_dump(mode="json"),
        "num_tokens": NUM_TOKENS,
        "shortcut": True,
        "pose_map_version": posemap.VERSION,
        "processors": model.base.layout(model.network),
        "facts": dict(facts),
        "files": {str(file.relative_to(folder)): sha256_of(file) for file in files},
    }


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `adapter_config.json` says, after holding every file against it.

    Raises:
        UsageError: there is no adapter, or one of another format.
        VerificationError: a file is missing or has other bytes.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        raise UsageError(f"{folder}: no {RECORD_NAME} in it; name a folder that `facecaptionhq export` wrote")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = (record["format_version"], record["pose_map_version"])
        files: dict[str, str] = record["files"]
        unnamed = {WEIGHTS_NAME, POSENET_NAME} - files.keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{path}: not the record of an adapter ({error!r}); export anew") from error
    if version[0] not in {*MODEL_BEFORE, FORMAT_VERSION} or version[1] != posemap.VERSION:
        raise UsageError(f"{path}: format and pose map are of version {version}, not {FORMAT_VERSION, posemap.VERSION}")
    if unnamed:
        raise VerificationError(f"{path}: does not name {', '.join(sorted(unnamed))}; export anew")
    for name, sha256 in files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            raise VerificationError(f"{folder / name}: missing, or not the bytes that {RECORD_NAME} names; export anew")
    return record


def read_export(
    folder: Path, base: str | None = None, image_encoder: str | None = None, dtype: torch.dtype = torch.float32
) -> FaceMakeUp:
    """Return the exported model, on the CPU; what was trained is in float32.

    `base` names another base model of the same sizes, `image_encoder` another place of the same image encoder. `dtype`
    is what the rest will be in (`FaceMakeUp.from_config`).

    Example:
        model = read_export(Path("adapter"))

    Raises:
        UsageError: there is no adapter, or it does not fit the base.
        VerificationError: files are damaged, or the adapter counts the attentions in another order.
    """
    record = read_record(folder)
    said = {**MODEL_BEFORE.get(record["format_version"], {}), **record["model"]}
    config = validated(ModelConfig, said, str(folder / RECORD_NAME), "model")
    if base:
        config = config.model_copy(update={"base": base, "base_revision": None})
    if image_encoder:
        config = config.model_copy(update={"image_encoder": image_encoder, "image_encoder_revision": None})
    model = FaceMakeUp.from_config(config, dtype=dtype)
    if record["processors"] != model.base.layout(model.network):
        raise VerificationError(f"{folder / RECORD_NAME}: the adapter counts attentions in another order than the base")
    try:
        model.load_trainable(_state(model, folder))
    except (KeyError, ValueError) as error:
        raise UsageError(f"{folder}: does not fit the base {config.base}: {error}") from error
    return model


def _state(model: FaceMakeUp, folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    names = flat_names(model)
    files = {file: load_file(folder / file) for file in {model.base.file_of(name) for name in names.values()}}
    state = {own: files[model.base.file_of(name)][name] for own, name in names.items()}
    posenet = load_file(folder / POSENET_NAME)
    return state | {f"{POSENET_PREFIX}{name}": tensor for name, tensor in posenet.items()}


def load_into_stock(pipe: Any, folder: Path) -> None:
    """Load the adapter into a stock diffusers pipeline of its base, as it was trained.

    `load_ip_adapter` alone leaves out the shortcut of pipelines with a U-Net, and the result is another model.

    Example:
        pipe = StableDiffusionPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5")
        load_into_stock(pipe, Path("adapter"))

    Raises:
        UsageError: there is no adapter, or one of another format.
        VerificationError: a file is missing or has other bytes.
    """
    read_record(folder)
    stock.load(pipe, folder)
