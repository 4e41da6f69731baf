"""Writes a trained adapter in the form that stock diffusers reads, and reads it back.

`facemakeup.safetensors` is flat: `image_proj.*` and `ip_adapter.{i}.*`, where i counts the U-Net's attention
processors in its own order; the form knows no names, so the order is recorded and checked. `controlnet/` is PoseNet.
`adapter_config.json` names every file with its sha256.
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
from facemakeup.inference.model_card import model_card
from facemakeup.model.attention import LORA_NAME, LORA_TARGETS
from facemakeup.model.encoders import load_unet
from facemakeup.model.facemakeup import FaceMakeUp

FORMAT_VERSION = 1
WEIGHTS_NAME = "facemakeup.safetensors"
POSENET_FOLDER = "controlnet"
POSENET_NAME = f"{POSENET_FOLDER}/diffusion_pytorch_model.safetensors"
RECORD_NAME = "adapter_config.json"
POSENET_PREFIX = "posenet."


def flat_names(model: FaceMakeUp) -> dict[str, str]:
    """Return the model's own name -> flat name of every trained tensor but PoseNet's."""
    names = {name: f"image_proj.{name[len('projector.') :]}" for name in _own(model, "projector.")}
    for index, processor in enumerate(model.unet.attn_processors):
        attention = f"unet.{processor.removesuffix('.processor')}"
        for target in LORA_TARGETS:
            for letter, way in (("A", "down"), ("B", "up")):
                own = f"{attention}.{target}.lora_{letter}.{LORA_NAME}.weight"
                names[own] = f"ip_adapter.{index}.{target.removesuffix('.0')}_lora.{way}.weight"
        for layer in ("to_k_ip", "to_v_ip"):
            if processor.endswith("attn2.processor"):
                names[f"{attention}.processor.{layer}.weight"] = f"ip_adapter.{index}.{layer}.weight"
    missing = set(model.trainable_named_parameters()) - set(_own(model, POSENET_PREFIX)) - set(names)
    if missing:
        raise TypeError(f"the flat form has no place for {sorted(missing)[:3]}")
    return names


def _own(model: FaceMakeUp, prefix: str) -> list[str]:
    return [name for name in model.trainable_named_parameters() if name.startswith(prefix)]


def export(model: FaceMakeUp, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the adapter to a folder that is not there yet; it appears whole or not at all.

    `facts` (step, average or not, data, ...) go into the record and the card.

    Raises:
        UsageError: the folder is there.
        TypeError: a trainable is not float32.
    """
    from safetensors.torch import save_file

    if folder.exists():
        raise UsageError(f"{folder}: is there already; name a folder that is not")
    model.require_fp32_trainables()
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    state = model.trainable_state()
    flat = {flat: state[own].cpu().contiguous() for own, flat in flat_names(model).items()}
    save_file(flat, part / WEIGHTS_NAME, metadata={"format": "pt"})
    model.posenet.save_pretrained(part / POSENET_FOLDER, max_shard_size="10GB")
    (part / "README.md").write_text(model_card(model.config, facts), encoding="utf-8")
    publish_json(part / RECORD_NAME, _record(model, facts, part))
    shutil.rmtree(part / TEMP_FOLDER, ignore_errors=True)
    part.rename(folder)


def _record(model: FaceMakeUp, facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    files = [folder / WEIGHTS_NAME, *sorted((folder / POSENET_FOLDER).iterdir())]
    return {
        "format_version": FORMAT_VERSION,
        "code_version": CODE_VERSION,
        "model": model.config.model_dump(mode="json"),
        "num_tokens": NUM_TOKENS,
        "shortcut": True,
        "pose_map_version": posemap.VERSION,
        "processors": list(model.unet.attn_processors),
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
    if version != (FORMAT_VERSION, posemap.VERSION):
        raise UsageError(f"{path}: format and pose map are of version {version}, not {FORMAT_VERSION, posemap.VERSION}")
    if unnamed:
        raise VerificationError(f"{path}: does not name {', '.join(sorted(unnamed))}; export anew")
    for name, sha256 in files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            raise VerificationError(f"{folder / name}: missing, or not the bytes that {RECORD_NAME} names; export anew")
    return record


def read_export(folder: Path, base: str | None = None, image_encoder: str | None = None) -> FaceMakeUp:
    """Return the exported model, on the CPU in float32.

    `base` names another base model of the same sizes, `image_encoder` another place of the same image encoder.

    Raises:
        UsageError: there is no adapter, or it does not fit the base.
        VerificationError: files are damaged, or the adapter counts the attentions in another order.
    """
    record = read_record(folder)
    config = validated(ModelConfig, record["model"], str(folder / RECORD_NAME), "model")
    if base:
        config = config.model_copy(update={"base": base, "base_revision": None})
    if image_encoder:
        config = config.model_copy(update={"image_encoder": image_encoder, "image_encoder_revision": None})
    model = FaceMakeUp.from_config(config, load_unet(config))
    if record["processors"] != list(model.unet.attn_processors):
        raise VerificationError(f"{folder / RECORD_NAME}: the adapter counts attentions in another order than the base")
    try:
        model.load_trainable(_state(model, folder))
    except (KeyError, ValueError) as error:
        raise UsageError(f"{folder}: does not fit the base {config.base}: {error}") from error
    return model


def _state(model: FaceMakeUp, folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    flat = load_file(folder / WEIGHTS_NAME)
    state = {own: flat[name] for own, name in flat_names(model).items()}
    posenet = load_file(folder / POSENET_NAME)
    return state | {f"{POSENET_PREFIX}{name}": tensor for name, tensor in posenet.items()}


def load_into_stock(pipe: Any, folder: Path) -> None:
    """Load the adapter into a stock diffusers pipeline, with the shortcut that it was trained with.

    `load_ip_adapter` alone leaves the shortcut off, and the result is another model.
    """
    read_record(folder)
    pipe.load_ip_adapter(str(folder), subfolder=None, weight_name=WEIGHTS_NAME, image_encoder_folder=None)
    pipe.unet.encoder_hid_proj.image_projection_layers[0].shortcut = True


def set_face(pipe: Any, identity_1D: Tensor, clip_hidden_1NC: Tensor, zero_hidden_1NC: Tensor | None) -> list[Tensor]:
    """Hand a face to a stock pipeline and return its `ip_adapter_image_embeds` for calls of one picture.

    `zero_hidden_1NC` are CLIP's hidden states of the zero picture, the negative branch's face; None for calls
    without guidance.
    """
    layer = pipe.unet.encoder_hid_proj.image_projection_layers[0]
    if zero_hidden_1NC is None:
        layer.clip_embeds = clip_hidden_1NC[:, None]
        return [identity_1D[:, None]]
    layer.clip_embeds = torch.cat([zero_hidden_1NC, clip_hidden_1NC])[:, None]
    return [torch.cat([torch.zeros_like(identity_1D), identity_1D])[:, None]]
