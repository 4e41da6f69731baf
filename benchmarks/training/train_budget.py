"""Computes what training the published model costs: FLOPs, memory, expected images per second and GPU hours.

    python -m benchmarks.training.train_budget [--gpu-hour-usd A100=1.5 --gpu-hour-usd H100=2.5]

Everything here is COMPUTED: the real configuration is built on the meta device (no weights, no GPU), its operations
are counted, the tensors that the backward pass keeps are added up. Nothing was timed; the share of a GPU's peak that
training reaches, and prices, are assumptions that stand in the result. Writes benchmarks/results/train_budget.json
and the table in docs/training.md.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.provenance import RESULTS, ROOT, commit, machine
from benchmarks.training.activations import activations
from facemakeup.config import DROP_TABLES, NUM_TOKENS
from facemakeup.model import skeleton
from facemakeup.model.facemakeup import FaceMakeUp

RESULT = RESULTS / "train_budget.json"
PAGE = ROOT / "docs" / "training.md"
BEGIN, END = "<!-- train_budget: computed -->", "<!-- /train_budget -->"
SIDE, CLIP_SIDE, STRIDE, TEXT_LENGTH, CLIP_TOKENS = 512, 224, 8, 77, 257
NUM_STEPS, GLOBAL_BATCH = 530_000, 64
PEAK_TFLOPS = {"A100": 312.0, "H100": 989.0}
"""Dense bfloat16, SXM, as NVIDIA's data sheets state it."""
MEMORY_GIB = {"A100": 80.0, "H100": 80.0}
UTILISATION = {"low": 0.25, "middle": 0.35, "high": 0.45}
"""Assumed shares of the peak."""
USABLE_MEMORY = 0.9
"""Assumed share of the memory that weights and activations may fill; the rest is workspace and fragmentation."""
GIB = 1 << 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute, write the JSON and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu-hour-usd", action="append", default=["A100=1.5", "H100=2.5"], metavar="GPU=USD")
    options = parser.parse_args(arguments)
    prices = {gpu: float(price) for gpu, price in (pair.split("=") for pair in options.gpu_hour_usd)}
    result = budget(prices)
    result |= {"machine": machine(), "commit": commit()}
    result["machine"] |= {name: version(name) for name in ("diffusers", "peft", "transformers")}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    print(table(result))
    return 0


def budget(prices: dict[str, float]) -> dict[str, Any]:
    """Return every figure, per picture of 512 x 512 pixels unless its name says otherwise."""
    model = skeleton.face_makeup(skeleton.sd15_config())
    gflops = flops_by_part(model)
    memory = memory_gib(model)
    seen_by_clip = clip_share()
    steps = {
        "everything online": gflops["step"] + gflops["vae_encode"] + gflops["text"] + seen_by_clip * gflops["clip"],
        "latents cached": gflops["step"] + gflops["text"] + seen_by_clip * gflops["clip"],
    }
    return {
        "computed": True,
        "timed": False,
        "assumptions": {
            "peak_tflops": PEAK_TFLOPS,
            "utilisation": UTILISATION,
            "usable_memory": USABLE_MEMORY,
            "gpu_hour_usd": prices,
            "images": NUM_STEPS * GLOBAL_BATCH,
            "share_of_samples_that_clip_sees": seen_by_clip,
        },
        "gflops": {name: round(value, 1) for name, value in gflops.items()},
        "gflops_per_image": {name: round(value, 1) for name, value in steps.items()},
        "memory_gib": memory,
        "gpus": {gpu: on_gpu(gpu, steps, memory, prices[gpu]) for gpu in PEAK_TFLOPS},
    }


def clip_share() -> float:
    """Return the share of samples whose CLIP picture is not dropped; the others take the remembered zero picture."""
    table = DROP_TABLES["recommended"]
    return round((1 - table.image - table.both) * (1 - table.clip), 4)


def inputs(side: int = SIDE, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return inputs of `FaceMakeUp.predict` for one picture, on the meta device."""
    latent = side // STRIDE

    def empty(*shape: int) -> Tensor:
        return torch.empty(*shape, device="meta", dtype=dtype)

    return {
        "noisy_latents_BCHW": empty(1, 4, latent, latent),
        "timesteps_B": torch.zeros(1, dtype=torch.long, device="meta"),
        "text_BLE": empty(1, TEXT_LENGTH, 768),
        "identity_BD": empty(1, 512),
        "clip_hidden_BNC": empty(1, CLIP_TOKENS, 1280),
        "pose_BCHW": empty(1, 3, side, side),
    }


def counted(action: Callable[[], Any]) -> float:
    """Return the GFLOPs of matrix products and convolutions (a multiply-add is two) that `action` takes."""
    with FlopCounterMode(display=False) as counter:
        action()
    return float(counter.get_total_flops()) / 1e9


def flops_by_part(model: FaceMakeUp) -> dict[str, float]:
    """Return GFLOPs of each part's forward pass, and of the whole training step (forward and backward)."""
    batch, parts = inputs(), skeleton.encoders(skeleton.sd15_config())
    tokens = torch.empty(1, NUM_TOKENS, 768, device="meta")
    context = torch.cat([batch["text_BLE"], tokens], dim=1)
    latents, times = batch["noisy_latents_BCHW"], batch["timesteps_B"]
    pixels = torch.empty(1, 3, SIDE, SIDE, device="meta")
    clip_pixels = torch.empty(1, 3, CLIP_SIDE, CLIP_SIDE, device="meta")
    words = torch.zeros(1, TEXT_LENGTH, dtype=torch.long, device="meta")
    with torch.no_grad():
        forward = {
            "base_unet": counted(lambda: skeleton.network(skeleton.sd15_config())(latents, times, batch["text_BLE"])),
            "adapted_unet": counted(lambda: model.network(latents, times, context)),
            "posenet": counted(lambda: model.posenet(latents, times, tokens, batch["pose_BCHW"])),
            "projector": counted(lambda: model.projector(batch["identity_BD"], batch["clip_hidden_BNC"])),
            "vae_encode": counted(lambda: parts["vae"].encode(pixels)),
            "text": counted(lambda: parts["text_encoder"](words)),
            "clip": counted(lambda: parts["image_encoder"](clip_pixels)),
        }
    return {**forward, "step": counted(lambda: model(**batch).sum().backward())}


def memory_gib(model: FaceMakeUp) -> dict[str, Any]:
    """Return GiB of the state on one GPU without sharding, and of the activations that one picture needs."""
    trained = sum(parameter.numel() for parameter in model.trainable_named_parameters().values())
    frozen = skeleton.num_parameters(model.network) + skeleton.num_parameters(model.projector)
    frozen += skeleton.num_parameters(model.posenet) - trained
    parts = {name: skeleton.num_parameters(part) for name, part in skeleton.encoders(skeleton.sd15_config()).items()}
    encoders = 2 * (parts["text_encoder"] + parts["image_encoder"]) + 4 * parts["vae"]
    state = {
        "trainables_fp32_weights_gradients_adam": 16 * trained,
        "average_of_trainables_fp32": 4 * trained,
        "autocast_copies_of_trainables_bf16": 2 * trained,
        "frozen_unet_bf16": 2 * frozen,
        "encoders_bf16_vae_fp32": encoders,
    }
    kept = {
        f"{name}_{kind}": activations(
            skeleton.face_makeup(skeleton.sd15_config()).to(dtype), inputs(dtype=dtype), checkpointing
        )
        for name, checkpointing in (("plain", False), ("checkpointed", True))
        for kind, dtype in (("all_bf16", torch.bfloat16), ("all_fp32", torch.float32))
    }
    return {
        "state": {name: round(size / GIB, 2) for name, size in state.items()},
        "state_total": round(sum(state.values()) / GIB, 2),
        "activations_per_image": {name: round(size / GIB, 2) for name, size in kept.items()},
    }


def on_gpu(gpu: str, steps: dict[str, float], memory: dict[str, Any], usd: float) -> dict[str, Any]:
    """Return speed, hours and price at each assumed utilisation, and the batch that fits by the larger estimate."""
    room = MEMORY_GIB[gpu] * USABLE_MEMORY - memory["state_total"]
    per_image = memory["activations_per_image"]
    fits = {name: int(room // per_image[f"{name}_all_fp32"]) for name in ("plain", "checkpointed")}
    runs = {}
    for name, gflops in steps.items():
        speed = {level: PEAK_TFLOPS[gpu] * 1000 * share / gflops for level, share in UTILISATION.items()}
        hours = {level: NUM_STEPS * GLOBAL_BATCH / rate / 3600 for level, rate in speed.items()}
        runs[name] = {
            "images_per_second": {level: round(rate, 1) for level, rate in speed.items()},
            "gpu_hours": {level: round(value) for level, value in hours.items()},
            "usd": {level: round(value * usd) for level, value in hours.items()},
        }
    return {"largest_micro_batch": fits, "runs": runs}


def table(result: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    gflops, memory, assumed = result["gflops"], result["memory_gib"], result["assumptions"]
    kept = memory["activations_per_image"]
    fits = result["gpus"]["A100"]["largest_micro_batch"]
    shares = "/".join(f"{share:.0%}" for share in assumed["utilisation"].values())
    lines = [
        "| computed per 512 px picture | |",
        "|---|---|",
        f"| forward: U-Net with adapter, PoseNet, projector | {gflops['adapted_unet']:.0f}, {gflops['posenet']:.0f}, "
        f"{gflops['projector']:.0f} GFLOP |",
        f"| forward: VAE encoder, CLIP-H, text | {gflops['vae_encode']:.0f}, {gflops['clip']:.0f}, "
        f"{gflops['text']:.0f} GFLOP |",
        f"| training step, forward and backward | {gflops['step']:.0f} GFLOP |",
        *(
            f"| all that a step takes, {name} | {value:.0f} GFLOP |"
            for name, value in result["gflops_per_image"].items()
        ),
        f"| weights, gradients, AdamW, average, autocast copies, encoders | {memory['state_total']:.1f} GiB |",
        f"| activations, all in bfloat16 to all in float32 | {kept['plain_all_bf16']:.1f} to "
        f"{kept['plain_all_fp32']:.1f} GiB |",
        f"| the same with gradient checkpointing | {kept['checkpointed_all_bf16']:.1f} to "
        f"{kept['checkpointed_all_fp32']:.1f} GiB |",
        f"| pictures that fit at once on 80 GB, without and with it | {fits['plain']}, {fits['checkpointed']} |",
        "",
        f"| at {shares} of the peak (assumed) | pictures/s per GPU | GPU hours for {NUM_STEPS:,} steps of "
        f"{GLOBAL_BATCH} | USD at an assumed price per GPU hour |",
        "|---|---|---|---|",
    ]
    for gpu, gpu_budget in result["gpus"].items():
        price = assumed["gpu_hour_usd"][gpu]
        for name, run in gpu_budget["runs"].items():
            speed, hours, usd = (_levels(run[key]) for key in ("images_per_second", "gpu_hours", "usd"))
            lines.append(f"| {gpu} 80 GB, {name} | {speed} | {hours} | {usd} (at {price:g}) |")
    return "\n".join(lines)


def _levels(values: dict[str, float]) -> str:
    return " / ".join(f"{value:,}" for value in values.values())


if __name__ == "__main__":
    raise SystemExit(main())
