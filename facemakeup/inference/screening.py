"""Prompts that are not drawn: whoever is in a reference photo is a real person."""

import re
from collections.abc import Sequence

from curation.errors import SafetyError

INTIMATE = re.compile(
    r"\b(nudes?|nudity|nudist|naked|topless|bottomless|undress\w*|unclothed|porn\w*|nsfw|hentai|erotic\w*|sexual\w*"
    r"|sex|sexy|genital\w*|nipples?|orgasm\w*|masturbat\w*|fetish\w*|(?:without|no) (?:any )?clothes)\b",
    re.IGNORECASE,
)
"""English words that ask for an intimate picture: read generously, and nobody can waive it."""


def require_decent(prompts: Sequence[str]) -> None:
    """Make sure that no prompt asks for an intimate picture of the person; what is drawn is not looked at.

    Raises:
        SafetyError: one does.
    """
    for prompt in prompts:
        if found := INTIMATE.search(prompt):
            raise SafetyError(
                f"prompt {prompt!r}: {found[0]!r} may ask for an intimate picture of a real person, and none is drawn; "
                f"say it in other words if it was meant otherwise"
            )
