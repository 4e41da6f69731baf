"""Limits that `calibrate` chose from labels, in a lock file that recipes name: `limits = "thresholds.lock.toml"`.

The lock takes the place of the keep ranges that it speaks of. A recipe that measures their scores otherwise than they
were calibrated on is refused, and so are labels that have changed since. What a recipe then holds is plain: the
limits where keep ranges stand, and a record of where they come from.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from curation.errors import RecipeError
from curation.recipe.filter_plan import FilterPlan
from curation.recipe.validation import read_toml, validated
from curation.storage.publish import sha256_of
from filters.base import Settings

SHA256 = "^[0-9a-f]{64}$"
MANIFEST = "manifest.csv"


class LimitsRequest(Settings):
    """What a recipe says: where the lock lies, and perhaps the labels that it must be of."""

    file: str
    labels: str | None = None


class LimitsRecord(Settings):
    """What stands in its place once the lock has been read."""

    file: str
    """Name of the lock."""
    sha256: str = Field(pattern=SHA256)
    """Of the lock."""
    labels_sha256: str = Field(pattern=SHA256)
    """Of the labels that it was made from."""
    ledger_state: str
    """Of the curated folder whose scores they were held against."""
    date: str
    code_version: str
    weights: dict[str, str] = Field(default={})
    """Name -> sha256 of the weights that measured those scores; others are refused."""
    limits: dict[str, dict[Literal["min", "max"], float]] = Field(min_length=1)
    """`filter.score` -> the ends of its keep range that came from the lock, and stand there still."""


class LockedLimit(Settings):
    """One limit, what it holds for, and the evidence for it."""

    filter: str
    score: str
    min: float | None = None
    max: float | None = None
    measured: dict[str, dict[str, Any]]
    """How the score was measured: filter -> its module, version and parameters."""
    weights: dict[str, str] = Field(default={})
    evidence: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _is_one_limit(self) -> Self:
        if (self.min is None) == (self.max is None):
            raise ValueError("either min or max is wanted")
        return self

    @property
    def ends(self) -> dict[str, float]:
        """The end of the keep range that it sets."""
        return {"max": self.max} if self.max is not None else {"min": float(self.min or 0.0)}


class LimitsLock(Settings):
    """The whole file."""

    schema_version: Literal[1] = 1
    labels_sha256: str = Field(pattern=SHA256)
    ledger_state: str
    recipe: str
    """Name of the recipe whose ledger it was."""
    recipe_digest: str
    date: str
    """Of the day, UTC, as 2026-01-31."""
    code_version: str
    limits: tuple[LockedLimit, ...] = Field(min_length=1)

    def written(self) -> str:
        """Return the file's text."""
        values = self.model_dump(mode="json", exclude_none=True)
        tables = values.pop("limits")
        head = [
            "# Written by `facecaptionhq calibrate`. A recipe takes these limits by a line `limits = FILE` at its top,",
            "# or any command by `--set limits=FILE`.",
        ]
        lines = [*head, *(f"{name} = {_toml(value)}" for name, value in values.items())]
        for table in tables:
            inner = {name: table.pop(name) for name in ("measured", "weights", "evidence")}
            lines += ["", "[[limits]]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
            for name, of_limit in inner.items():
                lines += ["", f"[limits.{name}]"] if of_limit else []
                lines += [f"{json.dumps(key)} = {_toml(value)}" for key, value in of_limit.items()]
        return "\n".join(lines) + "\n"


def labels_file(path: Path) -> Path:
    """Return the file of labels that a path names: itself, or the manifest of a labelled folder."""
    return path / MANIFEST if path.is_dir() else path


def read_lock(path: Path) -> LimitsLock:
    """Read a lock.

    Raises:
        RecipeError: it is not there, or not what `calibrate` writes.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such file of limits; `facecaptionhq calibrate` writes one")
    return validated(LimitsLock, read_toml(path), str(path), "")


def with_limits(values: Mapping[str, Any], folder: Path, where: str) -> tuple[dict[str, Any], LimitsLock | None]:
    """Return a recipe's plain values with the limits of the lock that they name, and the lock; None without one.

    `folder` is where relative paths begin; `where` names the recipe in errors.

    Raises:
        RecipeError: the lock cannot be read, is of other labels, or speaks of a filter that the recipe has not.
    """
    asked = values.get("limits")
    if asked is None or (isinstance(asked, Mapping) and "sha256" in asked):
        return dict(values), None
    if not isinstance(asked, str | Mapping):
        raise RecipeError(
            f"{where}: limits: the path of a lock is wanted, or a table of `file` and `labels`: {asked!r}"
        )
    request = validated(LimitsRequest, {"file": asked} if isinstance(asked, str) else asked, where, "limits")
    path = folder / request.file
    lock = read_lock(path)
    if request.labels is not None:
        _require_labels(labels_file(folder / request.labels), lock, path)
    weights = {name: sha256 for limit in lock.limits for name, sha256 in limit.weights.items()}
    record = {
        "file": path.name,
        "sha256": sha256_of(path),
        **{name: getattr(lock, name) for name in ("labels_sha256", "ledger_state", "date", "code_version")},
        "weights": weights,
        "limits": _ends(lock),
    }
    return {
        **values,
        "filters": _limited(values.get("filters"), lock, f"{where}: limits: {path}"),
        "limits": record,
    }, lock


def without_changed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's plain values whose record claims no limit that the keep ranges do not hold any more.

    For whoever changes keep ranges of a recipe. Where no limit of the lock is left, neither is the record.
    """
    record = values.get("limits")
    if not isinstance(record, Mapping) or not isinstance(record.get("limits"), Mapping):
        return dict(values)
    keeps = {stanza["name"]: stanza.get("keep", {}) for stanza in values["filters"]}
    left = {name: ends for name, ends in record["limits"].items() if _holds(keeps, name, ends)}
    others = {name: value for name, value in values.items() if name != "limits"}
    return {**others, "limits": {**record, "limits": left}} if left else others


def require_held(record: LimitsRecord, plans: Sequence[FilterPlan], where: str) -> None:
    """Make sure that the limits that a record claims are those of the recipe.

    Raises:
        RecipeError: one is not.
    """
    keeps = {
        plan.name: {score: {"min": keep.min, "max": keep.max} for score, keep in plan.keep.items()} for plan in plans
    }
    for name, ends in record.limits.items():
        if not _holds(keeps, name, ends):
            raise RecipeError(
                f"{where}: limits: says that {name} was calibrated to {ends}, which is not what the recipe keeps by; "
                f"name the lock (`limits = {record.file!r}`), or take {name} out of limits.limits"
            )


def _holds(keeps: Mapping[str, Any], name: str, ends: Mapping[Any, float]) -> bool:
    filter_name, _, score = name.partition(".")
    keep = keeps.get(filter_name, {}).get(score, {})
    return all(keep.get(end) == value for end, value in ends.items())


def _ends(lock: LimitsLock) -> dict[str, dict[str, float]]:
    """Return all limits of a lock by `filter.score`; a later one of an end stands, as in the keep ranges."""
    found: dict[str, dict[str, float]] = {}
    for limit in lock.limits:
        found.setdefault(f"{limit.filter}.{limit.score}", {}).update(limit.ends)
    return found


def require_measured_alike(plans: Sequence[FilterPlan], lock: LimitsLock, where: str) -> None:
    """Make sure that a recipe measures the scores that a lock speaks of as they were measured for it.

    Raises:
        RecipeError: it does not.
    """
    for limit in lock.limits:
        here = measuring(plans, limit.filter, limit.score)
        for name in {*here, *limit.measured}:
            there = limit.measured.get(name)
            if here.get(name) != there:
                raise RecipeError(
                    f"{where}: its limit of {limit.filter}.{limit.score} was calibrated on {name!r} as measured by "
                    f"{there}, and this recipe measures by {here.get(name)}: calibrate again on a run of this recipe"
                )


def measuring(plans: Sequence[FilterPlan], filter_name: str, score: str) -> dict[str, dict[str, Any]]:
    """Return filter -> all that a score depends on beside weights, decoding and libraries."""
    by_name = {plan.name: plan for plan in plans}
    joint = by_name[filter_name].joint.get(score)
    names = dict.fromkeys((filter_name,) if joint is None else (filter_name, *joint.inputs))
    names |= dict.fromkeys(other for name in names for other in by_name[name].inputs)
    of_joint = {} if joint is None else {"joint": _plain(joint)}
    return {name: _measured(by_name[name]) | (of_joint if name == filter_name else {}) for name in sorted(names)}


def _measured(plan: FilterPlan) -> dict[str, Any]:
    tables = {"measure": _plain(plan.measure), "score": _plain(plan.score)}
    return {"filter": plan.filter, "version": plan.module.VERSION, **tables}


def _plain(settings: Any) -> dict[str, Any]:
    values: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    return values


def _require_labels(labels: Path, lock: LimitsLock, path: Path) -> None:
    if not labels.is_file():
        raise RecipeError(f"{labels}: no such labels, of which the limits in {path} should be")
    if (found := sha256_of(labels)) != lock.labels_sha256:
        raise RecipeError(
            f"{path}: made from other labels than {labels} holds (sha256 {lock.labels_sha256[:12]}, not "
            f"{found[:12]}): calibrate again; if only a takedown (`forget`) took lines out of them, the limits still "
            f"stand: name the lock without `labels`"
        )


def _limited(stanzas: Any, lock: LimitsLock, where: str) -> Any:
    """Return the stanzas with the lock's limits; what is no list of tables is left to be refused where it is read."""
    if not isinstance(stanzas, list | tuple) or not all(isinstance(stanza, dict) for stanza in stanzas):
        return stanzas
    changed = {stanza.get("name"): dict(stanza) for stanza in stanzas}
    for limit in lock.limits:
        if (stanza := changed.get(limit.filter)) is None:
            raise RecipeError(f"{where}: a limit of {limit.filter!r}, which is no filter of this recipe")
        keep = dict(stanza.get("keep", {}))
        stanza["keep"] = keep | {limit.score: {**keep.get(limit.score, {}), **limit.ends}}
    return list(changed.values()) if len(changed) == len(stanzas) else stanzas


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
