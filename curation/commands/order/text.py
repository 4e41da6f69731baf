"""The cheapest order and what it saves, for a terminal and as plain values."""

from collections.abc import Iterator
from typing import Any

from curation.commands.order.observe import OrderSample
from curation.commands.order.proposal import Proposal
from curation.printable import counted, joined


def tell(proposal: Proposal, drawn: OrderSample) -> str:
    """Return the proposal as text, last of all the lines that a recipe takes."""
    return joined(
        (*_steps(proposal, drawn), *_totals(proposal, drawn), *_caveats(proposal), "", "[curate]", proposal.line)
    )


def values(proposal: Proposal, drawn: OrderSample) -> dict[str, Any]:
    """Return the same as plain values, for JSON."""
    about = {"origin": drawn.origin, "num_refused": drawn.num_refused, "decode_seconds": drawn.decode_seconds}
    return {**about, **proposal.values}


def _steps(proposal: Proposal, drawn: OrderSample) -> Iterator[str]:
    yield drawn.origin
    yield f"{counted(proposal.num_pictures, 'readable picture')}, {counted(drawn.num_refused, 'sample')} without one"
    yield ""
    yield f"proposed, in turn{'':<11}ms a call   measures   rejects   alone it would"
    for step in proposal.proposed.steps:
        alone = f"{proposal.rejects[step.name]:14.1%}" if step.name in proposal.rejects else f"{'-':>14}"
        yield f"{step.name:<24}{1000 * proposal.seconds[step.name]:13.2f}{step.asked:11.1%}{step.rejected:10.1%}{alone}"


def _totals(proposal: Proposal, drawn: OrderSample) -> Iterator[str]:
    yield ""
    yield f"CPU ms per readable picture, {1000 * drawn.decode_seconds:.2f} of decoding included"
    for name, played in (("recipe", proposal.recipe), ("declared", proposal.declared), ("proposed", proposal.proposed)):
        total = 1000 * (played.seconds + drawn.decode_seconds)
        yield f"{name:<10}{total:11.2f}  {', '.join(played.order)}"
    value, low, high = proposal.saving
    how = "the cheapest of all orders" if proposal.is_exact else "no single move makes it cheaper"
    yield f"the proposed order, {how}, saves {value:.1%} of the measuring (95 %: {low:.1%} to {high:.1%})"
    yield f"chosen on one half of the pictures, it saves {proposal.held_out_saving:.1%} on the other"


def _caveats(proposal: Proposal) -> Iterator[str]:
    if proposal.proposed.order == proposal.recipe.order:
        yield "the recipe's own order is the cheapest already"
    elif not proposal.is_certain:
        yield "so few pictures do not tell it from the recipe's own: keep that, or take a larger --sample"
    if idle := [name for name, share in proposal.rejects.items() if not share]:
        yield f"of the sample {' and '.join(idle)} would reject none: how many it does reject is not known from it"
