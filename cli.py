"""The command line: every command with its group and an example, and what an error means to whoever typed it.

Results go to stdout, talk goes to stderr. The commands stand in `curation/command_line` and `facemakeup/commands.py`;
they import stages when they are called, so that `--help` and a typo in a recipe answer at once.
"""

import curation.command_line  # noqa: F401, I001  first, so that Ctrl-C ends what loads the rest

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from curation.command_line import afterwards, catalogues, fleet, labels, look, publishing, seeing, stages, tools
from curation.command_line.options import asked
from curation.interrupts import command_typed, heed_ends, said_of_interrupt
from curation.printable import joined, printable, say, talk, told_bug
from facemakeup import commands as trainer

EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

app = typer.Typer(
    name="facecaptionhq",
    help="Turn web-scale face image-text data into training sets people can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="Trained weights: what is known of them, where they lie, how to get them.")
recipes_app = typer.Typer(help="Recipes that come with the package: what each is for, and its file as it is written.")

Commands = dict[Callable[..., None], str]
"""A command and one call of it."""
FIRST: Commands = {
    look.look: "look photos/",
}
STAGES: Commands = {
    stages.rank: "rank facecaption/ laion/ run/rank --release relaion/ --recipe facecaptionhq-4m",
    stages.import_: "import laion400m-parts/ laion.parquet --as laion",
    stages.fetch: "fetch run/rank run/fetch --workers 16",
    stages.curate: "curate photos/ run/curate --recipe demo --workers 4",
    stages.caption: "caption run/curate --recipe mine.toml --endpoint http://127.0.0.1:8000/v1",
    stages.pack: "pack run/curate run/pack --recipe demo",
    stages.report: "report run --against other-run",
}
AFTERWARDS: Commands = {
    afterwards.decide: "decide run --recipe mine.toml --dry-run",
    afterwards.verify: "verify run --workers 4",
    afterwards.gc: "gc run --dry-run",
    afterwards.why: "why run https://example.org/photo.jpg",
    afterwards.forget: "forget run --list takedown.txt --dry-run",
}
REVIEW: Commands = {
    seeing.review: "review run --reviewer ada",
    labels.calibrate: "calibrate labels.jsonl run --filter drawn --precision 0.95 --out thresholds.lock.toml",
    labels.teach: "teach labels.jsonl run --label drawn --against single --out head.json",
    labels.fairness: "fairness run --word hijab",
}
FLEET: Commands = {
    fleet.solve: "solve run --want 4000000 --out recipe.toml",
    fleet.status: "status run --json",
    fleet.launch: "launch slurm s3://bucket/fetch s3://bucket/curate --workers 64 --dry-run",
}
TRAINING: Commands = {
    trainer.cache: "cache configs/train/sd15.toml --data 'run/pack/*.tar' --out run/train",
    trainer.train: "train configs/train/sd15.toml --data 'run/pack/*.tar' --out run/train --resume",
    trainer.export: "export run/train/checkpoints/step-00530000 adapter",
    trainer.generate: "generate adapter --face photo.jpg --prompt 'a person in the snow' --out pictures",
    trainer.studio: "studio adapter --out drawings --accept-noncommercial",
    trainer.evaluate: "evaluate configs/evaluation/unsplash-face.toml --out scores --judges here",
}
TOOLS: Commands = {
    tools.plan: "plan run/rank --workers 16 --price 0.05",
    tools.order: "order run --recipe facecaptionhq-4m",
    tools.repair: "repair tars/ repaired/",
    tools.doctor: "doctor --recipe facecaptionhq-4m",
}
PUBLISHING: Commands = {
    publishing.card: "card run/pack --out card",
    publishing.publish: "publish run/pack NAMESPACE/NAME --card card",
    publishing.ledger: "ledger run --to ledger.csv",
}
MODELS: Commands = {
    catalogues.models_list: "models list",
    catalogues.models_pull: "models pull yolov5n-0.5-face --accept",
    catalogues.models_add: "models add own.onnx --name own --sha256 HASH",
    catalogues.models_verify: "models verify",
}
RECIPES: Commands = {
    catalogues.recipes_list: "recipes list",
    catalogues.recipes_show: "recipes show facecaptionhq-4m > mine.toml",
}
GROUPS = (
    (app, "To begin with", FIRST),
    (app, "Stages", STAGES),
    (app, "Afterwards", AFTERWARDS),
    (app, "Review and labels", REVIEW),
    (app, "Publishing", PUBLISHING),
    (app, "On a fleet", FLEET),
    (app, "Training", TRAINING),
    (app, "Tools", TOOLS),
    (models_app, None, MODELS),
    (recipes_app, None, RECIPES),
)
"""The groups in which `--help` shows the commands, each with one call of it."""

for typed, group, commands in GROUPS:
    for command, example in commands.items():
        name = example.split()[0] if typed is app else example.split()[1]
        typed.command(name, rich_help_panel=group, epilog=f"Example: facecaptionhq {example}")(command)
app.add_typer(models_app, name="models", no_args_is_help=True, rich_help_panel="Tools")
app.add_typer(recipes_app, name="recipes", no_args_is_help=True, rich_help_panel="Tools")


def _say_version(is_given: bool) -> None:
    if is_given:
        from curation.version import CODE_VERSION

        say(f"facecaptionhq {CODE_VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress; results, failures and errors alone.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Turn web-scale face image-text data into training sets people can trust."""
    asked["quiet"] = quiet


def main() -> None:
    """Run the command line; every error on purpose becomes one message and its own exit code."""
    talk()
    is_terminated = heed_ends()
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  the outermost edge: whatever comes here is reported as a bug
        code = _refuse(error)
    if code == EXIT_INTERRUPTED:  # of SIGTERM as well: the parser makes one code of every interrupt
        code = EXIT_TERMINATED if is_terminated() else code
        say(f"facecaptionhq: {said_of_interrupt(sys.argv[1:])}:\n  {command_typed()}", err=True)
    sys.exit(code)


def _refuse(error: Exception) -> int:
    """Say what an error means to whoever typed the command, and return the exit code."""
    from curation.storage.paths import refusal_of
    from filters.base import FaceCaptionError

    if hasattr(error, "format_message"):  # of the parser of the command line
        usage, message = getattr(error, "ctx", None), printable(error.format_message())
        if message:  # else it has shown the help
            say(f"{usage.get_usage()}\n{message}" if usage else message, err=True)
        return int(getattr(error, "exit_code", EXIT_USAGE))
    if isinstance(error, FaceCaptionError):
        say(f"facecaptionhq: {joined(error.lines)}", err=True)
        return error.exit_code
    if (refusal := refusal_of(error)) is not None:
        stores = "".join(f"{word}: " for word in sys.argv[1:] if "://" in word)
        say(f"facecaptionhq: {printable(stores)}{printable(refusal)}", err=True)
        return refusal.exit_code
    say(told_bug(error), err=True)
    say("facecaptionhq: this is a bug in facecaptionhq; please report the lines above", err=True)
    return EXIT_BUG


if __name__ == "__main__":
    main()
