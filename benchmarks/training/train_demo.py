"""From the demo's tars to a picture, end to end, on a tiny random model: cache, train, kill, resume, export, draw.

    python -m benchmarks.training.train_demo [--demo build/demo] [--out build/train-demo] [--steps 400] [--control]

What happens, each command as a user types it: `cache` fills the sidecar tars; `train` begins and gets SIGKILL in the
middle; `train --resume` ends the run; the last checkpoint is exported, loaded into stock diffusers, compared with our
own forward pass, and draws a grid. With `--control` a second run that nobody kills must end in the same bits.
Writes benchmarks/results/train_demo.json, docs/training-loss.png and OUT/grid.png.

The base model is random, so its pictures mean nothing; the loss on real photos must fall all the same.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.provenance import RESULTS, commit, machine
from facemakeup.data.batch import Batch
from facemakeup.data.caches import plan_of
from facemakeup.data.dataset import open_dataset
from facemakeup.data.order import batch
from facemakeup.inference.export import load_into_stock, read_export
from facemakeup.model.encoders import Encoders
from facemakeup.model.ip_adapter import set_face
from facemakeup.train_config import TrainConfig, load_config
from facemakeup.training.checkpoint import Checkpoint, newest
from facemakeup.training.export_checkpoint import export_checkpoint
from facemakeup.training.loop import CHECKPOINTS
from facemakeup.training.tracking import LOG_NAME
from tests.facemakeup import tiny

CONFIG = Path("configs/train/tiny.toml")
BASE_IN_CONFIG = "build/tiny-base"
CACHE_IN_CONFIG = "build/tiny-cache"
PROMPTS = ("a person wearing a red hat", "a person standing in a park")
NUM_REFERENCES = 3
KILL_AT = 0.55
"""Share of the steps after which the run is killed; not where a checkpoint is written."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it all; return 0 where the loss fell, the export agrees and a control run, if asked for, ended equal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.train_demo", description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("build/demo"), help="what demo.run wrote, or shall write")
    parser.add_argument("--out", type=Path, default=Path("build/train-demo"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--control", action="store_true", help="also train without a kill, and compare")
    parser.add_argument("--results", type=Path, default=RESULTS / "train_demo.json")
    parser.add_argument("--plot", type=Path, default=Path("docs/training-loss.png"))
    options = parser.parse_args(arguments)
    pattern = str(_tars(options.demo) / "*.tar")
    options.out.mkdir(parents=True, exist_ok=True)
    config = write_config(options.out, options.steps)
    _facecaptionhq("cache", str(config), "--data", pattern, "--out", str(options.out / "cache-work"))
    killed_at = train_and_kill(config, pattern, options.out / "run", int(options.steps * KILL_AT))
    resumed_at = _step(options.out / "run")
    _train(config, pattern, options.out / "run", "--resume")
    log = [json.loads(line) for line in (options.out / "run" / LOG_NAME).read_text().splitlines()]
    result = {
        "num_steps": options.steps, "num_samples": _num_samples(load_config(config), pattern, options.out),
        "killed_after_step": killed_at, "resumed_from_step": resumed_at, **losses(log), **speed(log),
        "export": export_and_draw(load_config(config), pattern, options.out),
    }  # fmt: skip
    if options.control:
        _train(config, pattern, options.out / "control")
        result["equals_a_run_that_was_not_killed"] = _same(options.out / "run", options.out / "control")
    result |= {"machine": machine(), "commit": commit()}
    options.results.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    plot(log, killed_at, resumed_at, options.plot)
    print(json.dumps(result, indent=2))
    fell = result["train_loss_last"] < 0.6 * result["train_loss_first"]
    agrees = result["export"]["largest_difference_to_stock_diffusers"] <= 1e-5
    return 0 if fell and agrees and result.get("equals_a_run_that_was_not_killed", True) else 1


def write_config(out: Path, num_steps: int) -> Path:
    """Write a tiny random base, and the committed configuration with this run's folders and number of steps."""
    tiny.write_base(out / "base")
    text = CONFIG.read_text(encoding="utf-8").replace(BASE_IN_CONFIG, str(out / "base"))
    text = text.replace(CACHE_IN_CONFIG, str(out / "cache")).replace("num_steps = 400", f"num_steps = {num_steps}")
    path = out / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def train_and_kill(config: Path, pattern: str, out: Path, step: int) -> int:
    """Train until a report of `step` or later, send SIGKILL, and return the step."""
    command = [sys.executable, "-m", "cli", "train", str(config), "--data", pattern, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=_environment())
    assert process.stderr is not None
    for line in process.stderr:
        words = line.split()
        if words[:2] == ["train:", "step"] and int(words[2]) >= step:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return int(words[2])
    raise SystemExit(f"training ended before step {step} with exit code {process.wait()}")


def losses(log: list[dict[str, float]]) -> dict[str, Any]:
    """Return the first and last losses: training over the first and last five reports, validation as it is."""
    train = [line["train/loss"] for line in log if "train/loss" in line]
    validation = [line["validation/loss"] for line in log if "validation/loss" in line]
    return {
        "train_loss_first": round(sum(train[:5]) / 5, 4),
        "train_loss_last": round(sum(train[-5:]) / 5, 4),
        "validation_loss_first": round(validation[0], 4),
        "validation_loss_last": round(validation[-1], 4),
    }


def speed(log: list[dict[str, float]]) -> dict[str, Any]:
    """Return samples per second and the share of time that waits for data, over the steady reports."""
    reports = [line for line in log if "speed/samples_per_s" in line][5:]
    return {
        name.partition("/")[2]: round(sum(line[name] for line in reports) / len(reports), 4)
        for name in ("speed/samples_per_s", "speed/data_wait_fraction")
    }


def export_and_draw(config: TrainConfig, pattern: str, out: Path) -> dict[str, Any]:
    """Export the last checkpoint, hold stock diffusers' U-Net against ours, and draw with the stock pipeline."""
    target = out / "adapter"
    if not target.exists():
        export_checkpoint(_last(out / "run").folder, target)
    encoders = Encoders.load(config.model)
    model = read_export(target)
    pipe = _stock(config, encoders)
    load_into_stock(pipe, target)
    _, held_out = open_dataset([pattern], config, plan_of(config, encoders), out / "run" / "work")
    shown = held_out.with_pixels().load(batch(held_out.order, 0)).batch
    identity, hidden = shown.identity_BD[:1], encoders.clip_hidden(shown.clip_pixels[:1])
    told = encoders.base.prompt(shown.captions[:1], shown.frames[:1])
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    embeds = set_face(pipe, identity, hidden, None)
    with torch.no_grad():
        theirs = pipe.unet(noise, 500, told["text_BLE"], added_cond_kwargs={"image_embeds": embeds}).sample
        ours = model.predict(noise, torch.tensor([500]), identity, hidden, None, **told)
    draw_grid(config, pipe, encoders, shown, out / "grid.png")
    return {
        "largest_difference_to_stock_diffusers": float((theirs - ours).abs().max()),
        "files": sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()),
    }


def draw_grid(config: TrainConfig, pipe: Any, encoders: Encoders, shown: Batch, path: Path) -> None:
    """Draw with the stock pipeline: one row per reference, with its pose and one picture for every prompt."""
    side = config.crop.size
    grid = Image.new("RGB", ((2 + len(PROMPTS)) * side, NUM_REFERENCES * side))
    for row in range(NUM_REFERENCES):
        hidden = encoders.clip_hidden(shown.clip_pixels[row : row + 1])
        embeds = set_face(pipe, shown.identity_BD[row : row + 1], hidden, encoders.zero_hidden())
        drawn = [
            pipe(
                prompt, ip_adapter_image_embeds=embeds, num_inference_steps=10, height=side, width=side,
                generator=torch.Generator().manual_seed(0),
            ).images[0]
            for prompt in PROMPTS
        ]  # fmt: skip
        pictures = [_picture(shown.pixels[row]), _picture(shown.pose[row] * 2 - 1), *drawn]
        for column, picture in enumerate(pictures):
            grid.paste(picture, (column * side, row * side))
    grid.save(path)


def _picture(pixels_CHW: torch.Tensor) -> Image.Image:
    return Image.fromarray(((pixels_CHW.permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy())


def plot(log: list[dict[str, float]], killed_at: int, resumed_at: int, path: Path) -> None:
    """Draw both losses over the steps, and where the run was killed and taken up again."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6), dpi=110)
    for name, label, style in (
        ("train/loss", "training (mean of 10 steps, conditions dropped)", {"color": "#7a8ba8", "linewidth": 1.2}),
        (
            "validation/loss",
            "validation (fixed noise and timesteps)",
            {"color": "#b3402a", "marker": "o", "markersize": 4},
        ),
    ):
        points = [(line["step"], line[name]) for line in log if name in line]
        axes.plot(*zip(*points, strict=True), label=label, **style)
    axes.axvline(killed_at, color="black", linestyle=":", linewidth=1)
    axes.annotate(
        f"kill -9 after step {killed_at},\nresumed from {resumed_at}", (killed_at, axes.get_ylim()[1] * 0.8),
        xytext=(6, 0), textcoords="offset points", fontsize=8,
    )  # fmt: skip
    axes.set(xlabel="optimiser step", ylabel="loss", ylim=(0, None), title="Tiny random model on the demo's photos")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def _stock(config: TrainConfig, encoders: Encoders) -> Any:
    import diffusers
    from transformers import CLIPImageProcessor

    networks: Any = encoders.base
    return diffusers.StableDiffusionPipeline(
        vae=networks.vae,
        text_encoder=networks.text_encoder,
        tokenizer=networks.tokenizer,
        unet=diffusers.UNet2DConditionModel.from_pretrained(config.model.base, subfolder="unet"),
        scheduler=diffusers.DDIMScheduler.from_pretrained(config.model.base, subfolder="scheduler"),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(size=encoders.clip_side, crop_size=encoders.clip_side),
        requires_safety_checker=False,
    )


def _num_samples(config: TrainConfig, pattern: str, out: Path) -> int:
    train, _ = open_dataset([pattern], config, plan_of(config, Encoders.load(config.model)), out / "run" / "work")
    return len(train.index)


def _tars(demo: Path) -> Path:
    folder = demo / "run" / "pack"
    if not (folder / "manifest.json").is_file():
        subprocess.run([sys.executable, "-m", "demo.run", "--out", str(demo)], check=True)
    return folder


def _train(config: Path, pattern: str, out: Path, *options: str) -> None:
    _facecaptionhq("train", str(config), "--data", pattern, "--out", str(out), *options)


def _facecaptionhq(*arguments: str) -> None:
    print("$ facecaptionhq", *arguments)
    subprocess.run([sys.executable, "-m", "cli", *arguments], check=True, env=_environment())


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _last(run: Path) -> Checkpoint:
    checkpoint = newest(run / CHECKPOINTS)
    if checkpoint is None:
        raise SystemExit(f"{run}: no checkpoint")
    return checkpoint


def _step(run: Path) -> int:
    return _last(run).step


def _same(one: Path, other: Path) -> bool:
    """Whether two runs ended in the same bits."""
    first, second = _last(one).snapshot(), _last(other).snapshot()
    groups = [(dict(getattr(first, name)), dict(getattr(second, name))) for name in ("trainable", "ema", "optimizer")]
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in groups)


if __name__ == "__main__":
    sys.exit(main())
