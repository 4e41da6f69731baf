"""VLM-score: a vision-language model is asked how authentic a face is, and its reply is read.

`compat` takes a reply only if the whole of it is JSON, as the reference does, and passes over the others. `std` takes
the first object in it that holds a whole number 0..100, fenced or within prose. Both count what they could not read.
"""

import json
from collections.abc import Sequence

from facemakeup.evaluation.estimate import Failure, Metric, Score, Value, Variant, mean_score

VLM_SCORE = Metric("VLM-score", 0.0, 100.0, "higher")
PROMPT = 'Score the authenticity of this face (0-100) and return it in JSON format:{"score":int}'
"""The published instruction: another one gives other numbers."""
MAX_NEW_TOKENS = 128
UNPARSED = "unparsed"


def read_reply(reply: str, variant: Variant) -> Value:
    """Return the score of a reply, or the failure `unparsed`."""
    for candidate in [reply] if variant == "compat" else _objects(reply):
        score = _score(candidate)
        if score is not None:
            return score
    return Failure(UNPARSED)


def vlm_score(variant: Variant, identities: Sequence[str], replies: Sequence[str | Failure]) -> Score:
    """Return the mean of the scores that could be read; the rate at which that was is beside it."""
    values = [reply if isinstance(reply, Failure) else read_reply(reply, variant) for reply in replies]
    num_replies = sum(not isinstance(reply, Failure) for reply in replies)
    num_parsed = sum(not isinstance(value, Failure) for value in values)
    details = {
        "num_parsed": float(num_parsed),
        "num_unparsed": float(num_replies - num_parsed),
        "parse_rate": num_parsed / num_replies if num_replies else None,
    }
    return mean_score(VLM_SCORE, variant, identities, values, details)


def _score(text: str) -> float | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    score = value.get("score") if isinstance(value, dict) else None
    if not isinstance(score, int) or isinstance(score, bool):
        return None
    return float(score) if 0 <= score <= 100 else None


def _objects(text: str) -> list[str]:
    """Return every flat JSON object in a text, as it stands there."""
    pieces = text.split("{")[1:]
    return ["{" + piece.split("}")[0] + "}" for piece in pieces if "}" in piece]
