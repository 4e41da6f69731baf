"""The flat form of IP-Adapter, which stock diffusers reads into a pipeline with a U-Net.

Names are `image_proj.*` and `ip_adapter.{i}.*`, where i counts the U-Net's attention processors in its own order; the
form knows no other names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facemakeup.config import ModelConfig
from facemakeup.model.attention import LORA_NAME, LORA_TARGETS, PROCESSOR_SUFFIX, face_attentions
from facemakeup.model.base import WEIGHTS_NAME

PROJECTOR = "projector."


def flat_names(unet: Any, unet_name: str, trained: Sequence[str]) -> dict[str, str]:
    """Return own name -> flat name of every trained parameter of projector and U-Net; `unet_name` begins the latter."""
    names = {name: f"image_proj.{name[len(PROJECTOR) :]}" for name in trained if name.startswith(PROJECTOR)}
    faced = face_attentions(unet)
    for index, processor in enumerate(unet.attn_processors):
        attention = f"{unet_name}.{processor.removesuffix(PROCESSOR_SUFFIX)}"
        for target in LORA_TARGETS:
            for letter, way in (("A", "down"), ("B", "up")):
                own = f"{attention}.{target}.lora_{letter}.{LORA_NAME}.weight"
                names[own] = f"ip_adapter.{index}.{target.removesuffix('.0')}_lora.{way}.weight"
        for layer in ("to_k_ip", "to_v_ip"):
            if processor in faced:
                names[f"{attention}.processor.{layer}.weight"] = f"ip_adapter.{index}.{layer}.weight"
    return names


def usage(pipeline: str, config: ModelConfig, options: str = "") -> str:
    """Return the card's part on the files: what reads each, and a program with diffusers' class `pipeline`.

    `options` are those of its call beside prompt and face, each with a comma and a space behind it.
    """
    return f"""## Files

| file | what reads it |
|---|---|
| `facemakeup.safetensors` | projector, face attentions and LoRA: `pipe.load_ip_adapter` of diffusers (needs peft) |
| `controlnet/` | PoseNet: `ControlNetModel.from_pretrained` |
| `adapter_config.json` | all settings, and the sha256 of every file |

```python
from pathlib import Path

from diffusers import {pipeline}

from facemakeup import load_into_stock, set_face

pipe = {pipeline}.from_pretrained({config.base!r})
load_into_stock(pipe, Path("."))  # load_ip_adapter, and the shortcut without which it is another model
# per face: identity (1, {config.recogniser.width}); CLIP's penultimate hidden states (1, N, {config.clip_width})
# of the aligned face, and of the zero picture
embeds = set_face(pipe, identity, clip_hidden, zero_hidden)
picture = pipe("a person wearing a red hat", {options}ip_adapter_image_embeds=embeds).images[0]
```
"""


def load(pipe: Any, folder: Path) -> None:
    """Load an exported adapter into a stock pipeline with a U-Net, with the shortcut that it was trained with."""
    pipe.load_ip_adapter(str(folder), subfolder=None, weight_name=WEIGHTS_NAME, image_encoder_folder=None)
    take_shortcut(pipe)


def take_shortcut(pipe: Any) -> None:
    """Make a stock pipeline add what CLIP saw to the bare identity, as in training; `load_ip_adapter` does not."""
    _projection(pipe).shortcut = True


def set_face(pipe: Any, identity_1D: Tensor, clip_hidden_1NC: Tensor, zero_hidden_1NC: Tensor | None) -> list[Tensor]:
    """Hand a face to a stock pipeline with a U-Net, as `facemakeup.model.stock.set_face` says."""
    layer = _projection(pipe)
    if zero_hidden_1NC is None:
        layer.clip_embeds = clip_hidden_1NC[:, None]
        return [identity_1D[:, None]]
    layer.clip_embeds = torch.cat([zero_hidden_1NC, clip_hidden_1NC])[:, None]
    return [torch.cat([torch.zeros_like(identity_1D), identity_1D])[:, None]]


def _projection(pipe: Any) -> Any:
    return pipe.unet.encoder_hid_proj.image_projection_layers[0]
