"""What a head was taught, for a terminal and as plain values."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from curation.commands.teach.card import stanza_of
from curation.commands.teach.lesson import TaughtHead
from curation.commands.teach.queue import Unsure
from curation.learning.limits import LimitFigures
from curation.printable import counted, joined


def tell(taught: TaughtHead, known_as: str, add: str, queue: Sequence[Unsure] | None) -> str:
    """Return how the head does, what to type, the recipe's lines, and, where that is asked, whom to label next."""
    return joined((*_figures(taught), "", add, "", *stanza_of(taught, known_as).split("\n"), *_queue(queue)))


def values(taught: TaughtHead, known_as: str, sha256: str, queue: Sequence[Unsure] | None) -> dict[str, Any]:
    """Return the same as plain values."""
    figures = {
        "at_limit": taught.figures,
        "sources_left_out": taught.left_out.figures if taught.left_out is not None else None,
        "recipe": taught.own,
    }
    return {
        "head": taught.wish.name,
        "sha256": sha256,
        "training": taught.heads.training.model_dump(mode="json"),
        "num_sources": taught.num_sources,
        "num_unjudged": taught.num_unjudged,
        "num_without_picture": taught.num_without_picture,
        "auc": round(taught.auc, 4),
        "target": str(taught.target),
        taught.side: taught.limit,
        **{name: None if part is None else asdict(part) for name, part in figures.items()},
        "rejected": {label: asdict(share) for label, share in taught.rejected.items()},
        "num_more": dict(taught.short_of),
        "stanza": stanza_of(taught, known_as),
        "queue": [asdict(picture) for picture in queue or ()],
    }


def _figures(taught: TaughtHead) -> Iterator[str]:
    counts = ", ".join(f"{label} {number}" for label, number in taught.heads.training.num_pictures.items())
    yield f"head {taught.wish.name}: taught by {counts}, of {counted(taught.num_sources, 'source')}"
    yield f"on sources that taught it nothing: AUC {taught.auc:.3f}"
    yield f"  {'':<30}{'right of the rejected':<24}{'rejected of those to go':<26}lost of those to stay"
    yield _row("the run's recipe", taught.own)
    if taught.limit is None or taught.figures is None:
        yield f"  no limit has a {taught.target}; the stanza's is where both sides are as likely"
    else:
        yield _row(f"logit {taught.side} {taught.limit:g}", taught.figures)
    if taught.left_out is not None:
        yield _row("limit of other sources, too", taught.left_out.figures)
    for measure, number in taught.short_of.items():
        yield f"  too few labels: {measure} is known to +-0.05 only with about {number} more"
    if taught.num_without_picture:
        yield f"  {taught.num_without_picture} labelled pictures could not be read and taught nothing (--source FOLDER)"


def _row(name: str, figures: LimitFigures) -> str:
    return f"  {name:<30}{figures.precision!s:<24}{figures.recall!s:<26}{figures.lost!s}"


def _queue(queue: Sequence[Unsure] | None) -> Iterator[str]:
    if queue is not None:
        yield ""
    if queue == []:
        yield "label next: none is left: every picture that can be read has a label"
    elif queue:
        yield "label next (uid, logit, key); chosen for doubt, so their labels stand for themselves alone, unweighed:"
        yield from (f"{picture.uid}  {picture.logit:+.2f}  {picture.key}" for picture in queue)
