"""What makes a pack ready for others: its card, its publication, and ledgers in other forms."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.arguments import path
from curation.command_line.options import (
    EXIT_FAULTS_FOUND,
    NUM_CORES,
    JsonOption,
    RayOption,
    RunArgument,
    WorkersOption,
    location,
    progress,
    spread_of,
    to_json,
)
from curation.printable import counted, say

PackArgument = Annotated[str, typer.Argument(help="Folder that `pack` wrote, or the run that holds one.")]
FormOption = Annotated[
    str | None,
    typer.Option("--form", help="ids (default): addresses, captions and scores; or pixels: the pictures, too."),
]
RightsOption = Annotated[
    str | None, typer.Option("--rights", help="Why the pictures may be passed on; stands in the card; pixels need it.")
]
ContactOption = Annotated[
    str | None, typer.Option("--contact", help="Whom to write to with an objection; else the repository's Community.")
]
RetentionOption = Annotated[
    str | None, typer.Option("--retention", help="How long the publisher keeps what; stands in the card.")
]
TitleOption = Annotated[str | None, typer.Option("--title", help="Title of the data set.")]
DateOption = Annotated[str | None, typer.Option("--date", help="Day of publication, YYYY-MM-DD; today unless given.")]
NotesOption = Annotated[
    Path | None, typer.Option("--notes", parser=path, help="A file of Markdown to end the card with, as it is.")
]
PackedFromOption = Annotated[
    str | None, typer.Option("--run", help="Run that the pack was made from, where it does not lie in it.")
]


def card(
    folder: PackArgument,
    out: Annotated[Path, typer.Option("--out", parser=path, help="Folder for the card: new, or one with a card.")],
    check: Annotated[
        bool, typer.Option("--check", help="Ask all numbers of the card in --out again, and name what differs.")
    ] = False,
    form: FormOption = None,
    rights: RightsOption = None,
    contact: ContactOption = None,
    retention: RetentionOption = None,
    title: TitleOption = None,
    repo: Annotated[str | None, typer.Option("--repo", help="Repository at the hub, NAMESPACE/NAME.")] = None,
    day: DateOption = None,
    notes: NotesOption = None,
    run: PackedFromOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --check: every difference, however many there are.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the data set card of a pack, for people and machines: every number in it is a query of the ledgers."""
    from curation.commands.card.stage import check_card, write_card
    from curation.commands.card.statements import stated
    from curation.commands.card.text import tell, tell_faults, values

    given = _given(form, rights, contact, retention, title, notes, repo=repo, date=day)
    home = location(run) if run else None
    if not check:
        made = write_card(location(folder), out, stated(**{"date": _today(), **given}), home)
        say(to_json(values(made)) if as_json else tell(made))
        return
    if given:
        raise _wrong(f"--check reads what was stated from the card: leave out --{', --'.join(given)}")
    faults = check_card(location(folder), out, home)
    say(to_json([vars(fault) for fault in faults]) if as_json else tell_faults(out, faults, is_verbose=verbose))
    if faults:
        raise typer.Exit(EXIT_FAULTS_FOUND)


def publish(  # long: an option per line
    folder: PackArgument,
    repo: Annotated[str, typer.Argument(help="Repository at the hub, NAMESPACE/NAME; made if it is not there.")],
    form: FormOption = None,
    rights: RightsOption = None,
    contact: ContactOption = None,
    retention: RetentionOption = None,
    title: TitleOption = None,
    day: DateOption = None,
    notes: NotesOption = None,
    made_card: Annotated[
        Path | None, typer.Option("--card", parser=path, help="A card that was looked at: publish what it states.")
    ] = None,
    run: PackedFromOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send it; without this, only say what would be sent.")] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public at once, or send to one that is.")
    ] = False,
    without_history: Annotated[
        bool | None,
        typer.Option(
            "--without-history/--keep-history",
            help="After a takedown: leave no earlier commit there, or leave all; one of both must be said then.",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a publication that this run has no record of.")
    ] = False,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a pack at the Hugging Face hub, after all gates; a dry run unless --yes is given."""
    from curation.commands.card.statements import stated, stated_in
    from curation.commands.publish.stage import Delivery
    from curation.commands.publish.stage import publish as send
    from curation.commands.publish.text import tell, values

    given = _given(form, rights, contact, retention, title, notes, date=day)
    if made_card is not None and given:
        raise _wrong(f"--card says what is stated: leave out --{', --'.join(given)}")
    before = {"date": _today(), **given} if made_card is None else stated_in(made_card).model_dump()
    if before.get("repo") not in (None, repo):
        raise _wrong(f"{made_card}: a card of {before['repo']}, not of {repo}; make one for it")
    statements = stated(**{**before, "repo": repo})
    delivery = Delivery(not public, without_history, may_replace=replace) if yes else None
    with progress("publish", done="verified") as on_outcome:
        spread = spread_of(workers, ray_address)
        home = location(run) if run else None
        published = send(location(folder), statements, made_card, home, delivery, spread, on_outcome)
    say(to_json(values(published)) if as_json else tell(published))


def ledger(
    run: RunArgument,
    target: Annotated[
        Path, typer.Option("--to", metavar="FILE", parser=path, help="File to write: .csv, .jsonl or .parquet.")
    ],
    stage: Annotated[
        str | None, typer.Option("--stage", help="Stage of the run whose ledger it is; curate unless given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the whole ledger of a stage as one file for other programs, safe to open in a spreadsheet."""
    from curation.commands.ledger.export import export_ledger

    num_rows = export_ledger(location(run), target, stage)
    say(to_json({"file": str(target), "num_rows": num_rows}) if as_json else counted(num_rows, "row"))


def _given(
    form: str | None,
    rights: str | None,
    contact: str | None,
    retention: str | None,
    title: str | None,
    notes: Path | None,
    **others: str | None,
) -> dict[str, Any]:
    """Return what was stated on the command line, by the name of its option."""
    text = None if notes is None else _text_of(notes)
    named = {"form": form, "rights": rights, "contact": contact, "retention": retention, "title": title, "notes": text}
    return {name: value for name, value in {**named, **others}.items() if value is not None}


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(f"{file}: no text in UTF-8: {error}") from error


def _wrong(what: str) -> Exception:
    from curation.errors import UsageError

    return UsageError(what)


def _today() -> str:
    return date.today().isoformat()
