"""A head's model card, and the lines of a recipe that use it."""

import re
from collections.abc import Iterator
from pathlib import Path

from curation.commands.teach.lesson import TaughtHead
from curation.errors import UsageError
from curation.learning.limits import LimitFigures
from curation.version import CODE_VERSION
from filters.heads import Heads

SIGN = re.compile(r"# Head `[^`]*`: model card\n")
"""How every card begins."""


def require_own(out: Path) -> None:
    """Make sure that a head and its card can be written, and replace nothing but an earlier head and its card.

    Raises:
        UsageError: they cannot, or would.
    """
    if out.suffix != ".json":
        raise UsageError(f"{out}: a head is a .json, its card lies beside it as .md: name {out.stem}.json")
    if out.exists() and not _is_head(out):
        raise UsageError(f"{out}: is there already, and no head; name another file")
    card = out.with_suffix(".md")
    if card.exists() and not (card.is_file() and SIGN.match(card.read_text(encoding="utf-8", errors="replace"))):
        raise UsageError(f"{card}: is there already, and no head's card, which would lie there; name another file")


def _is_head(path: Path) -> bool:
    try:
        Heads.model_validate_json(path.read_bytes())
    except (ValueError, OSError):
        return False
    return True


def stanza_of(taught: TaughtHead, known_as: str) -> str:
    """Return the table of a recipe that judges by the head, which `models add` knows by a name."""
    wish, limit = taught.wish, 0.0 if taught.limit is None else taught.limit
    if wish.is_of_drawn:
        keep = f"keep.{wish.name}_logit = {{ max = {limit:g} }}"
        return f'[[filters]]\nname = "drawn"\nmeasure = {{ heads = "{known_as}" }}\n{keep}'
    lines = (f'name = "{own_name(wish.name)}"', 'filter = "taught"', f'measure = {{ heads = "{known_as}" }}')
    return "\n".join(("[[filters]]", *lines, f"keep.logit = {{ {taught.side} = {limit:g} }}"))


def own_name(name: str) -> str:
    """Return under which name of one's own a recipe has the head."""
    return f"own_{name.replace('-', '_').lower()}"


def card_of(taught: TaughtHead, known_as: str, sha256: str) -> str:
    """Return the card as Markdown: use, data, errors on sources left out, and how a recipe takes it."""
    return "\n".join((*_about(taught), *_data(taught), *_errors(taught), *_use(taught, known_as, sha256))) + "\n"


def _about(taught: TaughtHead) -> Iterator[str]:
    wish = taught.wish
    others = ", ".join(f"`{label}`" for label in taught.rejected if label != wish.label)
    yield f"# Head `{wish.name}`: model card"
    yield ""
    yield (
        f"A logistic regression on {len(taught.heads.mean):,} features of EfficientNet-Lite0 (Apache-2.0), which looks "
        f"at the whole picture in 224 x 224 pixels. It tells pictures labelled `{wish.label}` from {others}; pictures "
        f"of the class are to {'stay' if wish.is_to_stay else 'go'}."
    )
    yield ""
    yield (
        "Of pictures unlike all of these it may say anything. Probabilities are those of two sides of equal weight, as "
        "they were taught."
    )


def _data(taught: TaughtHead) -> Iterator[str]:
    training = taught.heads.training
    counts = ", ".join(f"{number} `{label}`" for label, number in training.num_pictures.items())
    yield ""
    yield "## Data"
    yield ""
    yield f"{counts}, of {taught.num_sources} sources. Labels are not checked by anybody but who gave them."
    yield "The list of the pictures' sha256 and labels, of which the file holds no more than the digest, has the sha256"
    yield f"`{training.manifest_sha256}`."
    if taught.num_without_picture:
        yield f"{taught.num_without_picture} labelled pictures taught nothing, since they could not be read."
    if taught.heads.others:
        yield f"Taken over as they were: {', '.join(f'`{name}`' for name in taught.heads.others)}."


def _errors(taught: TaughtHead) -> Iterator[str]:
    yield ""
    yield "## Errors"
    yield ""
    yield (
        f"Every picture was judged by a head that saw nothing of its source. AUC {taught.auc:.3f}. Intervals are "
        "Wilson's, 95 %; pictures of a source are alike, so they are too narrow."
    )
    if taught.num_unjudged:
        yield f"{taught.num_unjudged} pictures are of sources without which nothing could be taught, and count nowhere."
    yield ""
    if taught.limit is None or taught.figures is None:
        yield f"No limit has a {taught.target}."
        return
    yield "| | right of the rejected | rejected of those to go | lost of those to stay |"
    yield "|---|---|---|---|"
    yield _row(f"logit {taught.side} {taught.limit:g}, chosen for {taught.target}", taught.figures)
    if taught.left_out is not None:
        yield _row("each source at the limit of the others", taught.left_out.figures)
    yield _row("the run's recipe as a whole, for comparison", taught.own)
    yield ""
    yield "| label | rejected at this limit |"
    yield "|---|---|"
    yield from (f"| {label} | {share} of {share.num} |" for label, share in taught.rejected.items())
    if taught.short_of:
        more = ", ".join(f"about {number} more for {measure}" for measure, number in taught.short_of.items())
        yield ""
        yield f"**Too few labels** to know this to +-0.05: {more}."


def _row(name: str, figures: LimitFigures) -> str:
    return f"| {name} | {figures.precision} | {figures.recall} | {figures.lost} |"


def _use(taught: TaughtHead, known_as: str, sha256: str) -> Iterator[str]:
    yield ""
    yield "## Use"
    yield ""
    yield f"Made by facecaptionhq {CODE_VERSION}. Confirm the file once on every machine that works; then a recipe has:"
    yield ""
    yield "```"
    yield f"facecaptionhq models add {known_as}.json --name {known_as} --sha256 {sha256}"
    yield "```"
    yield ""
    yield "```toml"
    yield stanza_of(taught, known_as)
    yield "```"
