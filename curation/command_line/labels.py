"""What labels are good for: limits, heads, and whom a run turns away."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from curation.arguments import path
from curation.command_line.options import JsonOption, RunArgument, SeedOption, asked, location, to_json
from curation.printable import say

LabelsArgument = Annotated[
    Path,
    typer.Argument(parser=path, help="A labels.jsonl that `review` wrote, or a labelled folder with a manifest.csv."),
]
PrecisionOption = Annotated[
    float | None,
    typer.Option("--precision", min=0.01, max=1, help="At least this share of the rejected are to be right to go."),
]
RecallOption = Annotated[
    float | None, typer.Option("--recall", min=0.01, max=1, help="At least this share of those to go are rejected.")
]
SourceOption = Annotated[str | None, typer.Option("--source", help="Folder that was curated, if not RUN/fetch.")]


def calibrate(
    labels: LabelsArgument,
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", parser=path, help="The lock file of limits to write.")],
    filter_name: Annotated[str | None, typer.Option("--filter", help="Only this filter of the run's recipe.")] = None,
    score: Annotated[str | None, typer.Option("--score", help="Only this score of the filter.")] = None,
    precision: PrecisionOption = None,
    recall: RecallOption = None,
    reject: Annotated[
        list[str] | None, typer.Option("--reject", help="A label of what is to go, if not the usual; may be repeated.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="A label of what is to stay, if not `single`; may be repeated.")
    ] = None,
    side: Annotated[
        Literal["min", "max"] | None, typer.Option("--side", help="Which end of the keep range, if that is not clear.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Choose limits between labelled pictures, with evidence, and lock them in a file that recipes name."""
    target = _target(precision, recall)
    from curation.commands.calibrate.calibrate import WantedLimits
    from curation.commands.calibrate.calibrate import calibrate as run_calibrate
    from curation.commands.calibrate.locks import write_lock
    from curation.commands.calibrate.text import tell, values, warnings, way_on

    wanted = WantedLimits(filter_name, score, tuple(reject or ()), tuple(keep or ()), side)
    calibration = run_calibrate(location(run), labels, wanted, target, seed)
    dropped = write_lock(out, calibration.lock)
    say(to_json(values(calibration)) if as_json else tell(calibration))
    for name in dropped:
        say(f"{out}: {name} was calibrated on other labels, ledgers or code, and is no longer in it", err=True)
    if doubts := warnings(calibration):
        say(doubts, err=True)
    if not as_json:
        say(way_on(calibration, run, out))


def teach(  # as many parameters as a lesson has
    labels: LabelsArgument,
    run: RunArgument,
    label: Annotated[str, typer.Option("--label", help="The class that the head is to tell.")],
    out: Annotated[Path, typer.Option("--out", parser=path, help="The head's file to write; its card beside it.")],
    against: Annotated[
        list[str] | None, typer.Option("--against", help="A label to tell it from, if not all others; repeatable.")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Another name of the head; `drawn` and `nonhuman` are of that filter.")
    ] = None,
    is_to_stay: Annotated[
        bool, typer.Option("--keep", help="Pictures of the class are to stay, others to go.")
    ] = False,
    precision: PrecisionOption = None,
    recall: RecallOption = None,
    queue: Annotated[
        int, typer.Option("--queue", min=0, help="So many pictures that the head is least sure of, to label next.")
    ] = 0,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Pictures that the queue is chosen from.")] = 1000,
    source: SourceOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Teach a head that tells a labelled class, judge it on sources left out, and show the recipe's lines for it."""
    target = _target(precision, recall)
    from curation.commands.teach.card import card_of, require_own
    from curation.commands.teach.lesson import Wish
    from curation.commands.teach.lesson import teach as run_teach
    from curation.commands.teach.queue import least_sure
    from curation.commands.teach.text import tell, values
    from curation.dataset.labelled import read_label_set
    from curation.recipe.limits import labels_file
    from curation.storage.publish import publish_alone, sha256_of

    def told(line: str) -> None:
        if not asked["quiet"]:
            say(line, err=True)

    require_own(out)
    wish = Wish(label, tuple(against or ()), head, is_to_stay)
    folder = location(source) if source else None
    taught = run_teach(location(run), labels, wish, target, folder, seed, told)
    publish_alone(out, lambda temp: temp.write_text(taught.heads.written(), encoding="ascii"))
    sha256 = sha256_of(out)
    publish_alone(out.with_suffix(".md"), lambda temp: temp.write_text(card_of(taught, out.stem, sha256)))
    known = [picture.identity for picture in read_label_set(labels_file(labels)).pictures]
    how = {"num": queue, "num_sampled": sample, "seed": seed}
    unsure = (
        least_sure(location(run), taught.heads, wish.name, known, source=folder, tell=told, **how) if queue else None
    )
    add = f"facecaptionhq models add {out} --name {out.stem} --sha256 {sha256}"
    say(to_json(values(taught, out.stem, sha256, unsure)) if as_json else tell(taught, out.stem, add, unsure))


def fairness(
    run: RunArgument,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", parser=path, help="Labels, or a labelled folder, whose tags are slices, too."),
    ] = None,
    among: Annotated[str, typer.Option("--among", help="Tags are compared among pictures with this label.")] = "single",
    word: Annotated[
        list[str] | None, typer.Option("--word", help="A word of captions, as a slice; read from tars; repeatable.")
    ] = None,
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whom a run keeps less often than others, by slices that its ledgers hold, and which filter does it."""
    from curation.commands.fairness.audit import audit
    from curation.commands.fairness.text import tell, values

    folder = location(source) if source else None
    found = audit(location(run), labels, among=among, words=tuple(word or ()), source=folder)
    say(to_json(values(found)) if as_json else tell(found))


def _target(precision: float | None, recall: float | None) -> Any:
    """Return what limits are chosen for."""
    from curation.errors import UsageError
    from curation.learning.limits import Target

    if precision is not None and recall is not None:
        raise UsageError("--precision and --recall: aim at one of them; the other is as good as it can be")
    if precision is not None:
        return Target("precision", precision)
    return Target("recall", recall) if recall is not None else Target()
