"""What reasons mean, in words: for reports, and for whoever asks the reference."""

import importlib
import re
from collections.abc import Mapping

from curation.dataset.reasons import OF_STAGES
from curation.dataset.stages import RANK
from curation.images.decode import FORMER_REASONS, REASONS
from curation.measure.cascade import FAULTS, QUARANTINE, UNREADABLE
from curation.recipe.filter_plan import is_filter
from curation.recipe.joint_scores import JOINT_SCORES
from filters.base import Explained, ScoreMeaning

OF_A_SCORE = re.compile(r"(.+)_(low|high|not_finite)")
OF_OWN_GATE = re.compile(r"own_[a-z0-9_]+")
OF_HTTP = re.compile(r"http_(\d{3})")


def meaning_of(rejected_by: str, reason: str) -> str:
    """Return what it means that a stage, a filter, `unreadable` or `quarantine` turned a sample away; "" if unknown."""
    if rejected_by == UNREADABLE:
        return {**FORMER_REASONS, **REASONS}.get(reason, "")
    if rejected_by == QUARANTINE:
        return FAULTS.get(reason, "")
    if rejected_by in OF_STAGES:
        if rejected_by == RANK.name and OF_OWN_GATE.fullmatch(reason):
            return "a gate that another distribution brings left it out"
        code = OF_HTTP.fullmatch(reason)
        return OF_STAGES[rejected_by].get(reason, f"its host refused with HTTP {code[1]}" if code else "")
    failed = OF_A_SCORE.fullmatch(reason)
    if failed is None:
        return ""
    score, kind = failed.groups()
    known = score_meanings(rejected_by).get(score)
    return "" if known is None else known.failure(kind)


def about(name: str, score: str) -> str:
    """Return what a filter's score measures, and its unit; "" where the filter does not say."""
    known = score_meanings(name).get(score)
    return "" if known is None else f"{known.about} ({known.unit})"


def score_meanings(name: str) -> Mapping[str, ScoreMeaning]:
    """Return the meaning of every score that a filter's keep ranges may name; a filter of one's own may say nothing."""
    if not is_filter(name):
        return {}
    module = importlib.import_module(f"filters.{name}")
    own = dict(module.MEANINGS) if isinstance(module, Explained) else {}
    return own | {score: joint.meaning for score, joint in JOINT_SCORES.items() if joint.owner == name}
