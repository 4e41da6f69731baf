"""The trainer's part of the command line: each command parses, calls one function, and prints.

Heavy libraries are imported inside the commands, so that `--help` answers at once.
"""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from curation.arguments import path
from curation.command_line.options import (
    EXIT_SOME_SHARDS_FAILED,
    JsonOption,
    RayOption,
    WorkersOption,
    spread_of,
    to_json,
)
from curation.printable import counted, say

DataOption = Annotated[list[str], typer.Option("--data", help="Glob of packed tars, a path or an fsspec address.")]
BaseOption = Annotated[str | None, typer.Option("--base", help="Another base model than the trained one.")]
EncoderOption = Annotated[str | None, typer.Option("--image-encoder", help="Another place of it.")]
DetectorOption = Annotated[
    str, typer.Option("--detector", help="yolov5-face, centerface, yolov5-face-torch, a plugin's.")
]
WeightsOption = Annotated[str, typer.Option("--weights", help="The detector's weights; '' where it brings its own.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
TermsOption = Annotated[
    bool, typer.Option("--accept-noncommercial", help="Accept the recogniser's terms, where it has such.")
]
AdapterArgument = Annotated[Path, typer.Argument(parser=path, help="Folder that `export` wrote.")]


def cache(
    config: Annotated[
        Path, typer.Argument(parser=path, help="A training configuration; `cache.folder` says where the caches go.")
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", parser=path, help="Folder for scans and fetched shards.")],
    device: Annotated[str, typer.Option("--device", help="Where the VAE runs: cpu, cuda or cuda:N.")] = "cpu",
    workers: WorkersOption = 0,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute VAE latents, identity vectors and aligned faces once, into sidecar tars that `train` reads."""
    from facemakeup.train_config import load_config

    loaded = load_config(config)
    from facemakeup.data.cache import fill_cache, gpus_per_worker
    from facemakeup.faults import count
    from facemakeup.model.encoders import LatentEncoders

    spread = spread_of(workers, ray_address, gpus_per_worker(device, workers, ray_address))
    encoders = LatentEncoders.load(loaded.model, device)
    done = fill_cache(loaded, data, encoders, out / "work", lambda shard: say(f"cache {shard}: done", err=True), spread)
    summary = {**done.counts, "faults": count(done.faults)}
    say(to_json(summary) if as_json else f"cache: {summary}")
    for failure in done.failed:
        say(f"cache {failure.shard}: {failure.error}", err=True)
    if done.failed:
        say(f"{counted(len(done.failed), 'shard')} failed; the same command again retries only what failed", err=True)
        raise typer.Exit(EXIT_SOME_SHARDS_FAILED)


def train(
    config: Annotated[
        Path, typer.Argument(parser=path, help="A training configuration, such as configs/train/sd15.toml.")
    ],
    data: DataOption,
    out: Annotated[
        Path, typer.Option("--out", parser=path, help="Folder of the run: checkpoints, logs, caches of shards.")
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint in OUT.")] = False,
    checkpoints: Annotated[
        str | None,
        typer.Option("--checkpoints", help="Folder or address (s3://...) that checkpoints go to and come from, too."),
    ] = None,
) -> None:
    """Train Face-MakeUp on packed tars; under `accelerate launch -m cli train` on several GPUs."""
    from facemakeup.train_config import load_config

    loaded = load_config(config)
    from curation.storage.paths import location
    from facemakeup.training.interruption import Interrupted
    from facemakeup.training.progress import steps
    from facemakeup.training.train import train as run

    try:
        with steps() as on_step:
            done = run(loaded, data, out, resume, on_step, None if checkpoints is None else location(checkpoints))
    except Interrupted as stopped:
        say(f"facecaptionhq: {stopped}; type the same command with --resume to go on", err=True)
        raise SystemExit(stopped.exit_code) from stopped  # it has said how to go on, which is not by the same command
    say(done.folder)


def export(
    checkpoint: Annotated[
        Path, typer.Argument(parser=path, help="A checkpoint's folder, such as OUT/checkpoints/step-00530000.")
    ],
    target: Annotated[Path, typer.Argument(parser=path, help="Folder for the adapter; it must not be there yet.")],
    last: Annotated[bool, typer.Option("--last", help="Take the last weights, not their average.")] = False,
) -> None:
    """Write a trained adapter in the form that stock diffusers loads."""
    from facemakeup.training.export_checkpoint import export_checkpoint

    export_checkpoint(checkpoint, target, average=not last)
    say(target)


def generate(  # long: what it draws by is a line per option
    adapter: AdapterArgument,
    face: Annotated[list[Path], typer.Option("--face", parser=path, help="Photo of the person; several are mixed.")],
    prompt: Annotated[list[str], typer.Option("--prompt", help="One picture is drawn per prompt.")],
    out: Annotated[Path, typer.Option("--out", parser=path, help="Folder for the pictures and their record.")],
    pose: Annotated[
        Path | None, typer.Option("--pose", parser=path, help="Photo whose face gives the pose; else it is free.")
    ] = None,
    mix: Annotated[list[float] | None, typer.Option("--mix", help="Weight of each face; alike without.")] = None,
    negative_prompt: Annotated[str, typer.Option("--negative-prompt", help="What not to draw.")] = "",
    face_scale: Annotated[float, typer.Option("--face-scale", min=0, help="Strength of the face.")] = 1.0,
    clip_scale: Annotated[float, typer.Option("--clip-scale", min=0, help="Look beside bare identity.")] = 1.0,
    pose_scale: Annotated[float, typer.Option("--pose-scale", min=0, help="Strength of the pose.")] = 1.0,
    pose_start: Annotated[float, typer.Option("--pose-start", min=0, max=1, help="Share of steps before it.")] = 0.0,
    pose_end: Annotated[float, typer.Option("--pose-end", min=0, max=1, help="Share of steps after which none.")] = 1.0,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, max=1000, help="Steps; else as many as the base is drawn in.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0, help="Guidance; else what the base is drawn with.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same picture.")] = 42,
    height: Annotated[
        int | None, typer.Option("--height", min=8, help="Pixels, a multiple of 8 (FLUX.1: of 16); else as trained.")
    ] = None,
    width: Annotated[int | None, typer.Option("--width", min=8, help="Pixels, likewise.")] = None,
    base: BaseOption = None,
    image_encoder: EncoderOption = None,
    detector: DetectorOption = "yolov5-face",
    weights: WeightsOption = "yolov5n-face",
    device: DeviceOption = "cpu",
    accept_noncommercial: TermsOption = False,
    no_adapter: Annotated[bool, typer.Option("--no-adapter", help="Draw what the base model draws.")] = False,
    consent: Annotated[
        str | None, typer.Option("--consent", help="What the person in the photos agreed to; recorded.")
    ] = None,
) -> None:
    """Draw pictures of a person from photos of the face, prompts and a pose."""
    from curation.recipe.validation import validated
    from facemakeup.inference.generate import DrawRequest, FaceFinder
    from facemakeup.inference.generate import generate as run

    settings = {
        "prompts": prompt,
        "negative_prompt": negative_prompt,
        "mix": mix or None,
        "scales": {"face": face_scale, "clip": clip_scale, "pose": pose_scale},
        "sampling": {"num_steps": steps, "guidance_scale": guidance, "pose_start": pose_start, "pose_end": pose_end},
        "seed": seed,
        "height": height,
        "width": width,
        "adapter": not no_adapter,
        "consent": consent,
    }
    request = validated(DrawRequest, settings, "generate", "")
    found_by = {"detector": detector, "weights": weights, "accept_noncommercial": accept_noncommercial}
    finder = validated(FaceFinder, found_by, "generate", "")
    for picture in run(adapter, face, pose, out, request, finder, base, image_encoder, device):
        say(picture)


def studio(
    adapter: AdapterArgument,
    out: Annotated[Path, typer.Option("--out", parser=path, help="Folder; every drawing gets one of its own in it.")],
    side: Annotated[
        int | None, typer.Option("--side", min=8, help="Pixels that the page offers first; else as trained.")
    ] = None,
    base: BaseOption = None,
    image_encoder: EncoderOption = None,
    detector: DetectorOption = "yolov5-face",
    weights: WeightsOption = "yolov5n-face",
    device: DeviceOption = "cpu",
    accept_noncommercial: TermsOption = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port of 127.0.0.1; 0 is any free one.")] = 0,
) -> None:
    """Open a local page to draw on: mixed faces, prompt, style, a pose that is dragged, scales, grids over them."""
    from curation.serving.serve import require_server

    require_server("studio")
    from curation.recipe.validation import validated
    from facemakeup.inference.generate import FaceFinder
    from facemakeup.studio.app import serve
    from facemakeup.studio.studio import open_studio

    found_by = {"detector": detector, "weights": weights, "accept_noncommercial": accept_noncommercial}
    say(f"studio: loading {adapter} and its base model ...", err=True)
    opened = open_studio(adapter, validated(FaceFinder, found_by, "studio", ""), out, side, base, image_encoder, device)
    say("studio: open this address in a browser on this machine; Ctrl-C ends", err=True)
    with suppress(KeyboardInterrupt):
        serve(opened, port, say)


def evaluate(
    config: Annotated[
        Path | None, typer.Argument(parser=path, help="An evaluation, such as configs/evaluation/unsplash-face.toml.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", parser=path, help="Folder for the table; without it, who judges.")
    ] = None,
    judges: Annotated[str, typer.Option("--judges", help="all, or here: without those that are missing.")] = "all",
) -> None:
    """Draw by five methods, or take pictures, and score them: the published metrics, with intervals and anchors."""
    from facemakeup.evaluation.evaluate import evaluate as run
    from facemakeup.evaluation.evaluate import panel_of
    from facemakeup.evaluation.settings import asked_for, load_evaluation
    from facemakeup.evaluation.table import as_markdown
    from facemakeup.evaluation.text import tell_panel

    settings = None if config is None else load_evaluation(config)
    if asked_for(config, out, judges):
        for line in tell_panel(panel_of(settings)):
            say(line)
        return
    assert config is not None and settings is not None and out is not None, "`asked_for` says so"
    say(as_markdown(run(settings, config.parent, out, judges, lambda line: say(line, err=True))))
