"""What somebody states of a publication, and no ledger knows: its form, the rights, whom to ask."""

import re
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from curation.dataset.stages import CARD_VALUES_NAME
from curation.errors import RecipeError, SafetyError, UsageError, VerificationError
from curation.recipe.validation import validated
from curation.storage.publish import read_sealed
from filters.base import Settings

Form = Literal["ids", "pixels"]
STATED = "stated"
REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]{0,95}", re.ASCII)
UNTITLED = "Face pictures with captions"


class Statements(Settings):
    """Whatever a card says that was stated and not counted.

    Example:
        Statements(form="pixels", rights="CC0 pictures of our own studio", date="2026-11-30")
    """

    form: Form = "ids"
    """`ids`: identities, captions and scores; `pixels`: the pictures, too."""
    rights: str | None = None
    """Why the pictures may be passed on; without it they are not."""
    contact: str | None = None
    """Whom to write to; without it the repository's own discussions are named."""
    retention: str | None = None
    """How long the publisher keeps what, if that was stated."""
    title: str = UNTITLED
    repo: str | None = None
    """`NAMESPACE/NAME` at the hub."""
    date: str
    """Of the publication, `YYYY-MM-DD`."""
    notes: str | None = None
    """Markdown of the publisher's own; its numbers are nobody's query, and the card says so."""

    @field_validator("date")
    @classmethod
    def _is_a_day(cls, text: str) -> str:
        return date.fromisoformat(text).isoformat()

    @field_validator("repo")
    @classmethod
    def _is_a_repository(cls, text: str | None) -> str | None:
        if text is not None and not REPO.fullmatch(text):
            raise ValueError("give it as NAMESPACE/NAME")
        return text

    @property
    def address(self) -> str | None:
        """Return where the repository is to be found; None while it has none."""
        return None if self.repo is None else f"https://huggingface.co/datasets/{self.repo}"


def stated(**values: Any) -> Statements:
    """Return checked statements.

    Raises:
        UsageError: one of them does not hold.
        SafetyError: pictures are to be passed on, and nobody said by what right.
    """
    try:
        statements = validated(Statements, values, "card", "")
    except RecipeError as error:
        raise UsageError(*error.lines) from error
    if statements.form == "pixels" and not (statements.rights or "").strip():
        raise SafetyError(
            "--form pixels passes the pictures on, and they belong to their owners: say by --rights why it may be "
            "done (it stands in the card), or publish the form ids"
        )
    return statements


def stated_in(folder: Path) -> Statements:
    """Return what was stated when a card was made.

    Raises:
        UsageError: there is no card.
        VerificationError: it is not as it was written.
    """
    path = folder / CARD_VALUES_NAME
    if not path.is_file():
        raise UsageError(f"{path}: no such file; `facecaptionhq card` writes it")
    try:
        return stated(**read_sealed(path)[STATED])
    except (KeyError, TypeError, UsageError, SafetyError) as error:
        raise VerificationError(f"{path}: not a card of this version: {error}") from error
