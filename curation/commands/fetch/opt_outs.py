"""What servers say against the use of a picture for training: response headers, each with its own grammar."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from curation.commands.fetch.heads import Headers
from curation.recipe.settings import FetchSettings

LINKED_AGENT = "img2dataset"
"""Whose page our User-Agent links to: who reads that page may address us by this name."""
IMPLIED: Mapping[str, tuple[str, ...]] = MappingProxyType({"none": ("noindex", "nofollow"), "noml": ("noai",)})
"""Directives that mean others."""
RULES_WITH_VALUES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Rules of `X-Robots-Tag` that carry a colon without naming an agent."""
SPEAKING = frozenset({"x-robots-tag", "tdm-reservation", "content-usage"})
"""Headers that may forbid a use."""
AGENT = re.compile(r"\*|[a-z][a-z0-9._+/-]*")
USES: Mapping[str, frozenset[str]] = MappingProxyType(
    {"off": frozenset(), "aipref-06": frozenset({"train-ai", "train-genai", "ai", "genai", "tdm", "bots", "ai-train"})}
)
"""Labels of uses that include ours, by version of the vocabulary (draft-ietf-aipref-vocab-06, 4.1: `train-ai`); the
others are those of earlier drafts and of Content Signals, which servers still send."""
PREFERENCE = re.compile(r"(?:^|[,\s])([a-z][a-z0-9_.*-]*)\s*=\s*(n|no|\?0)(?=[\s,;]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class OptOut:
    """The evidence that somebody does not want a picture used."""

    where: str
    """The name of the header, `robots.txt`, `tdmrep.json`, or the kind of metadata in the file: `xmp`, `c2pa`."""
    value: str
    """What it says."""
    source: str | None = None
    """The address that said it; None where it was the file itself."""


def agents(settings: FetchSettings) -> tuple[str, ...]:
    """Return the names by which a rule may address us."""
    return settings.user_agent_token, LINKED_AGENT


def header_opt_out(headers: Headers, settings: FetchSettings) -> tuple[str, str] | None:
    """Return the header that forbids us the picture, and what it says; None where none does."""
    if not headers.among(SPEAKING):
        return None
    tags = headers.get_all("x-robots-tag")
    if is_opted_out(tags, settings):
        return "x-robots-tag", ", ".join(tags)
    for reservation in headers.get_all("tdm-reservation"):
        if "1" in re.split(r"[,;\s]+", reservation.strip()):  # TDMRep (W3C CG), 5.1
            return "tdm-reservation", reservation
    for usage in headers.get_all("content-usage"):
        if forbids_use(usage, settings):
            return "content-usage", usage
    return None


def forbids_use(preferences: str, settings: FetchSettings) -> bool:
    """Return whether a dictionary of usage preferences (`train-ai=n, search=y`) forbids a use that includes ours.

    Of contradicting preferences the restrictive one counts (draft-ietf-aipref-vocab-06, 5.1).
    """
    return any(match[1].lower() in USES[settings.content_usage] for match in PREFERENCE.finditer(preferences))


def is_opted_out(values: Sequence[str], settings: FetchSettings) -> bool:
    """Return whether `X-Robots-Tag` headers forbid us the picture, in a rule for all agents or for one of our names."""
    ours = (None, "*", *agents(settings))
    forbidden = {directive.strip().lower() for directive in settings.opt_out_directives}
    return any(
        agent in ours and not forbidden.isdisjoint((directive, *IMPLIED.get(directive, ())))
        for header in values
        for agent, directive in _rules(header)
    )


def _rules(header: str) -> Iterator[tuple[str | None, str]]:
    """Yield agent and directive of each rule of one header; an agent stands for all that follow it."""
    agent: str | None = None
    for rule in re.split(r"[,;\s]+", re.sub(r"\s*:\s*", ":", header.lower())):
        name, colon, rest = rule.partition(":")
        if not colon:
            yield agent, name
        elif name not in RULES_WITH_VALUES and AGENT.fullmatch(name):
            agent = name.partition("/")[0]
            yield agent, rest
