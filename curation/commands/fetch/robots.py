"""robots.txt (RFC 9309): who may be asked for what."""

import re
from functools import partial

from protego import Protego

from curation.commands.fetch.opt_outs import agents, forbids_use
from curation.commands.fetch.site_files import Kind
from curation.recipe.settings import FetchSettings

ROBOTS_UNREACHABLE = "robots_unreachable"
"""The site answers, but not with a robots.txt that could be read: all of it is forbidden then (RFC 9309, 2.3.1.4)."""
USAGE = re.compile(r"\s*content-(?:usage|signal)\s*:\s*(?:(/\S*)\s)?([^#]*)", re.IGNORECASE)
AGENT = re.compile(r"\s*user-?\s?agent\s*:?\s*([^#]*)", re.IGNORECASE)


class RobotsRules:
    """What one robots.txt says to us."""

    def __init__(self, text: str, settings: FetchSettings) -> None:
        """Parse its text; lines that mean nothing are ignored, as the standard has it."""
        named = {match[1].strip().lower() for line in text.splitlines() if (match := AGENT.match(line))}
        names = agents(settings)
        self._agents = tuple(name for name in names if name in named) or names[:1]
        self._crawling = Protego.parse(text)
        speaks_of_usage = any(map(USAGE.match, text.splitlines()))
        self._usage = Protego.parse(_usage_as_crawling(text, settings)) if speaks_of_usage else None

    def forbid(self, url: str) -> str | None:
        """Return the kind of rule that keeps us from a URL, or None; our own groups count before that for all."""
        for kind, rules in (("disallow", self._crawling), ("content-usage", self._usage)):
            for agent in self._agents:
                if rules is not None and not rules.can_fetch(url, agent):
                    return f"{kind} for {agent}"
        return None


def robots_txt(settings: FetchSettings) -> Kind:
    """Return what is to be known of robots.txt."""
    return Kind("/robots.txt", "robots.txt", ROBOTS_UNREACHABLE, partial(RobotsRules, settings=settings))


def _usage_as_crawling(text: str, settings: FetchSettings) -> str:
    """Return rules of usage (draft-ietf-aipref-attach, 3; Content Signals) as Allow and Disallow, in their groups.

    So the longest match decides here as there. Every other rule stays as a line that only ends a list of agents; what
    stands before any group is for all.
    """
    lines = ["User-agent: *", "x: x"]
    for line in text.splitlines():
        if usage := USAGE.match(line):
            verb = "Disallow" if forbids_use(usage[2], settings) else "Allow"
            lines.append(f"{verb}: {usage[1] or '/'}")
        elif AGENT.match(line):
            lines.append(line)
        elif line.partition("#")[0].strip():
            lines.append("x: x")
    return "\n".join(lines)
