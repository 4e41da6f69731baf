"""What comes with the package or is fetched for it: weights and recipes."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from curation.arguments import path
from curation.command_line.options import (
    EXIT_WEIGHTS_WRONG,
    JsonOption,
    SetOption,
    load,
    to_json,
)
from curation.printable import say


def models_list(as_json: JsonOption = False) -> None:
    """List every entry of the catalogue: name, size, licence, where it is offered, and whether it is here."""
    from curation.commands.models.text import tell_catalogue
    from filters.weights import catalogue, place_of

    places = {entry.name: place_of(entry) for entry in catalogue()}
    told = [asdict(entry) | {"here": None if (at := places[entry.name]) is None else str(at)} for entry in catalogue()]
    say(to_json(told) if as_json else tell_catalogue(catalogue(), places))


def models_pull(
    name: Annotated[str, typer.Argument(help="Name in the catalogue.")],
    accept: Annotated[bool, typer.Option("--accept", help="Accept the terms that the entry names.")] = False,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Folder or address that holds the same files; sha256 still counts.")
    ] = None,
) -> None:
    """Fetch weights from their pinned address, and keep them only if their sha256 is the known one."""
    from filters.pulling import pull

    say(pull(name, accept, mirror).path)


def models_add(
    file: Annotated[Path, typer.Argument(parser=path, help="A file of weights.")],
    name: Annotated[str, typer.Option("--name", help="Name to use in recipes.")],
    sha256: Annotated[str, typer.Option("--sha256", help="The hash that you confirm, in hex.")],
) -> None:
    """Record a file of weights with the sha256 that you confirm."""
    from filters.weights import add

    say(add(file, name, sha256).path)
    say(f"confirmed as `{name}`: recipes and configurations find it by this name", err=True)


def models_verify() -> None:
    """Look for every entry of the catalogue and check the bytes of those that are here; missing ones are no fault."""
    from curation.commands.models.text import tell_statuses
    from filters.weights import verify_all

    statuses = verify_all()
    say(tell_statuses(statuses))
    if any(status.is_wrong for status in statuses):
        raise typer.Exit(EXIT_WEIGHTS_WRONG)


def recipes_list(as_json: JsonOption = False) -> None:
    """List the recipes that come with the package, and what each is for."""
    from curation.recipe.recipe import described_recipes

    described = described_recipes()
    say(to_json(described) if as_json else "\n".join(f"{name}: {text}" for name, text in described.items()))


def recipes_show(
    name: Annotated[str, typer.Argument(help="A bundled recipe's name, or a TOML file.")],
    changes: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every value, defaults and changes filled in.")] = False,
) -> None:
    """Print a recipe's file as it is written (TOML); with `--json` or `--set`, all that it comes to, as JSON."""
    from curation.recipe.recipe import recipe_text

    resolved = as_json or bool(changes)
    say(to_json(load(name, changes).resolved) if resolved else recipe_text(name).rstrip("\n"))
