"""Which replies are fit to train on: a pure function of what came back, of the evidence and of `[caption.checks]`."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from curation.commands.caption.claims import contradiction
from curation.commands.caption.reply import MAX_STORED_CHARACTERS
from curation.dataset.caption_facts import facts_of
from curation.dataset.captions import clean_caption
from curation.recipe.captioning import CaptionChecks

NUM_PHRASE_WORDS = 4
REFUSAL = re.compile(
    r"\b(?:i['\u2019]?\s?a?m (?:sorry|unable|not able|not allowed)|sorry, (?:but )?i"
    r"|i (?:cannot|can['\u2019]?t|can not|won['\u2019]?t|could not|couldn['\u2019]?t|do not|don['\u2019]?t) "
    r"(?:help|assist|identify|describe|comply|provide|see|view|have|generate|fulfil|process|analy[sz]e|recogni[sz]e)"
    r"|as an? (?:ai|artificial|language|large language)\b|(?:cannot|can['\u2019]?t|unable to) (?:assist|comply|fulfil)"
    r"|(?:my|content|safety) (?:guidelines|policy|policies|programming)"
    r"|no image (?:was|is|has been) (?:provided|attached)"
    r"|please (?:provide|upload|attach) (?:an?|the) (?:image|picture|photo))",
    re.IGNORECASE,
)
MARKUP = re.compile(
    r"<\|[^|<>]{1,60}\|>|</?(?:s|unk|pad|image|img|think|html|body|div|p|br|script|a|b|i|answer|caption)\b[^<>]{0,200}>|<image>"
    r"|\[/?INST\]|\[/?IMG\]|```|^[^\S\n]*[{\[]|https?://|\bwww\.|^#{1,6} |\*\*|^[^\S\n]*[-*\u2022] ",
    re.IGNORECASE | re.MULTILINE,
)
"""What belongs to a model's own talk, to JSON, to HTML or Markdown, and to no sentence about a picture."""
BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
ALLOWED_CONTROLS = frozenset("\n\r\t")


def told(text: str) -> str:
    """Return a reply as it would be packed, whatever its length: clean, on one line."""
    return clean_caption(text, MAX_STORED_CHARACTERS)


def fault_of(reply: Mapping[str, Any], row: Mapping[str, Any], checks: CaptionChecks) -> str | None:
    """Return the first thing for which a reply is not fit, as a reason, or None.

    `reply` has the columns `reply`, `num_reply_characters` and `finish_reason` of the ledger of `caption`, `row` is the
    picture's row of the curated ledger.
    """
    raw, text = reply["reply"], told(reply["reply"])
    facts = facts_of(text, "model")
    wrong = {
        "empty": not facts.num_words,
        "control_characters": _has_controls(raw),
        "refusal": REFUSAL.search(text) is not None,
        "markup": MARKUP.search(raw) is not None,
        "cut_off": reply["finish_reason"] == "length",
        "too_long": reply["num_reply_characters"] > MAX_STORED_CHARACTERS or facts.num_words > checks.max_words,
        "too_short": facts.num_words < checks.min_words,
        "repeats": repeats(text, checks.max_repeats),
        "language": bool(checks.languages) and facts.language not in checks.languages,
        "boilerplate": facts.is_boilerplate,
        "personal_data": checks.refuse_personal_data and (facts.has_email or facts.has_phone),
    }
    first = next((reason for reason, is_so in wrong.items() if is_so), None)
    if first is not None or not checks.refuse_contradictions:
        return first
    return contradiction(text, row)


def same_for_many(digests: Sequence[str | None], max_same: int) -> frozenset[str]:
    """Return what too many pictures of a shard were given alike; `digests` are those of fit captions, else None."""
    return frozenset(digest for digest, number in Counter(digests).items() if digest is not None and number > max_same)


def digest_of(text: str) -> str:
    """Return what two captions share that say the same but for case, punctuation and spacing: 16 hex digits."""
    return facts_of(told(text), "model").digest


def repeats(text: str, max_repeats: int) -> bool:
    """Whether a text says a sentence twice, or the same four words more often than it may."""
    sentences = [part.strip().casefold() for part in re.split(r"[.!?;\n]+", text) if len(part.split()) >= 3]
    if len(set(sentences)) < len(sentences):
        return True
    words = re.findall(r"\w+", text.casefold())
    phrases = Counter(tuple(words[i : i + NUM_PHRASE_WORDS]) for i in range(len(words) - NUM_PHRASE_WORDS + 1))
    return any(number > max_repeats for number in phrases.values())


def _has_controls(text: str) -> bool:
    return any(
        c in BIDIRECTIONAL or (c not in ALLOWED_CONTROLS and unicodedata.category(c) in {"Cc", "Co", "Cs"})
        for c in text
    )
