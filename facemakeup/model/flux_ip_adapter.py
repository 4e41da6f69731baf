"""The form of an adapter of FLUX.1 that stock diffusers reads: an IP-Adapter and a LoRA, each in its file.

diffusers counts the attentions of the double blocks (`ip_adapter.{i}.`), and knows a projection that is one layer and a
norm (`image_proj.`); what makes the vector before it is ours (`features.`), which its loader passes over.

Shapes: F numbers of a face's features, N CLIP tokens, C their width, D identity width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facemakeup.config import NUM_TOKENS, ModelConfig
from facemakeup.model.attention import LORA_NAME, PROCESSOR_SUFFIX
from facemakeup.model.base import WEIGHTS_NAME
from facemakeup.model.projector import Projector

LORA_FILE = "pytorch_lora_weights.safetensors"
"""Where diffusers looks for LoRA in a folder."""
PROJECTOR, FEATURES, PROJECTION = "projector.", "features.", "image_proj."


def face_processors(network: Any, names: Sequence[str]) -> dict[str, nn.Module]:
    """Return diffusers' own processors with face attention; its values begin at zero, so that the base is unchanged."""
    from diffusers.models.transformers.transformer_flux import FluxIPAdapterAttnProcessor

    made: dict[str, nn.Module] = {}
    for name in names:
        processor = FluxIPAdapterAttnProcessor(
            network.inner_dim, network.config.joint_attention_dim, num_tokens=(NUM_TOKENS,), device=network.device
        )
        for parameter in processor.to_v_ip.parameters():
            nn.init.zeros_(parameter)
        made[name] = processor
    return made


def flat_names(network_name: str, layout: Sequence[str], trained: Sequence[str]) -> dict[str, str]:
    """Return own name -> name in the files of every trained parameter of projector and network."""
    counted = {f"{network_name}.{name.removesuffix(PROCESSOR_SUFFIX)}.processor.": i for i, name in enumerate(layout)}
    names = {}
    for own in trained:
        processor = f"{own.partition('.processor.')[0]}.processor."
        if own.startswith(PROJECTOR):
            within = own.removeprefix(PROJECTOR)
            names[own] = within if within.startswith(FEATURES) else f"{PROJECTION}{within}"
        elif processor in counted:
            layer, _, kind = own.removeprefix(processor).split(".")
            names[own] = f"ip_adapter.{counted[processor]}.{layer}.{kind}"
        elif f".{LORA_NAME}.weight" in own:
            names[own] = own.replace(f".{LORA_NAME}.weight", ".weight")
    return names


def file_of(flat_name: str) -> str:
    """Return which of the two files holds a name."""
    return LORA_FILE if ".lora_" in flat_name else WEIGHTS_NAME


def load(pipe: Any, folder: Path) -> None:
    """Load an exported adapter into a pipeline of diffusers with a FLUX transformer."""
    pipe.load_ip_adapter(str(folder), weight_name=WEIGHTS_NAME, image_encoder_pretrained_model_name_or_path=None)
    pipe.load_lora_weights(str(folder), weight_name=LORA_FILE, adapter_name=LORA_NAME)
    _projection(pipe).features = _features(folder / WEIGHTS_NAME).to(pipe.transformer.device, pipe.transformer.dtype)


@torch.no_grad()
def set_face(pipe: Any, identity_1D: Tensor, clip_hidden_1NC: Tensor, zero_hidden_1NC: Tensor | None) -> list[Tensor]:
    """Return a face's `ip_adapter_image_embeds`, one tensor (1, 1, F).

    `zero_hidden_1NC` is not looked at: a negative branch of a stock pipeline is handed the tensor of another call.
    """
    features = _projection(pipe).features
    like = next(features.parameters())
    return [features(identity_1D.to(like), clip_hidden_1NC.to(like)).flatten(1)[:, None]]


def _projection(pipe: Any) -> Any:
    return pipe.transformer.encoder_hid_proj.image_projection_layers[0]


def _features(file: Path) -> Projector:
    from safetensors.torch import load_file

    state = {n.removeprefix(FEATURES): value for n, value in load_file(file).items() if n.startswith(FEATURES)}
    identity_width, clip_width = (
        state[f"{layer}.weight"].shape[1] for layer in ("proj.0", "perceiver_resampler.proj_in")
    )
    features = Projector(identity_width, clip_width, len(state["norm.weight"]))
    features.load_state_dict(state)
    return features.requires_grad_(False).eval()


def usage(config: ModelConfig) -> str:
    """Return the card's part on the files: what reads each, and a program."""
    return f"""## Files

| file | what reads it |
|---|---|
| `facemakeup.safetensors` | face attentions, projector but for its `features.`: `pipe.load_ip_adapter` of diffusers |
| `{LORA_FILE}` | LoRA: `pipe.load_lora_weights` of diffusers (needs peft) |
| `controlnet/` | PoseNet: `FluxControlNetModel.from_pretrained` |
| `adapter_config.json` | all settings, and the sha256 of every file |

```python
from pathlib import Path

from diffusers import FluxPipeline

from facemakeup import load_into_stock, set_face

pipe = FluxPipeline.from_pretrained({config.base!r})
load_into_stock(pipe, Path("."))  # load_ip_adapter, load_lora_weights, and what makes the vector of a face
# per face: identity (1, {config.recogniser.width}); CLIP's penultimate hidden states (1, N, {config.clip_width})
# of the aligned face
embeds = set_face(pipe, identity, clip_hidden, None)
picture = pipe(
    "a person wearing a red hat", ip_adapter_image_embeds=embeds, negative_ip_adapter_image_embeds=embeds
).images[0]
```
"""
