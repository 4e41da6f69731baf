"""What is said of a look, for a terminal and as plain values."""

import shlex
from typing import Any

from curation.commands.look.choice import Chosen
from curation.commands.look.stage import Looked
from curation.printable import joined
from curation.run.text import tell as tell_stage
from curation.run.text import values as stage_values


def tell_choice(chosen: Chosen) -> str:
    """Return which recipe looks, and what the better ones would need."""
    name = chosen.recipe.name
    lines = [f"look: measuring with the recipe {name}"]
    if chosen.is_begun:
        lines = [f"look: going on with the recipe {name}, with which this folder was begun; a new --out takes a better"]
    for better, names in chosen.lacking:
        lines.append(f"look: {better} is better and lacks {', '.join(names)}: {_doctor(better)} says how to get them")
    return joined(lines)


def tell(looked: Looked, options: str) -> str:
    """Return the counts, where the page lies, and what may follow; `options` name the recipe as it was named here."""
    run = shlex.quote(str(looked.run))
    return joined(
        (
            *tell_stage(looked.manifest, looked.run / "curate").split("\n"),
            f"the page: {looked.page}",
            f"question single pictures: facecaptionhq why {run} ID",
            f"try other limits:         facecaptionhq decide {run} {options} --set KEY=VALUE --dry-run",
            f"label them in a browser:  facecaptionhq review {run}",
        )
    )


def values(looked: Looked) -> dict[str, Any]:
    """Return the same as plain values, for JSON."""
    lacking = {name: list(names) for name, names in looked.chosen.lacking}
    return {
        **stage_values(looked.manifest, looked.run / "curate"),
        "run": str(looked.run),
        "page": str(looked.page),
        "lacking": lacking,
    }


def _doctor(recipe: str) -> str:
    return f"`facecaptionhq doctor --recipe {recipe}`"
