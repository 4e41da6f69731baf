"""The desk at which a run is reviewed: everything that a request may need, made once when the server starts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import Any

from curation.commands.review.agreement import agreements
from curation.commands.review.detail import detail
from curation.commands.review.folder import Reviewed, labels_place, open_curated
from curation.commands.review.gallery import Query, page, spread, uids_of
from curation.commands.review.pictures import Pictures
from curation.commands.review.projection import Basis, points
from curation.commands.review.queue import Draw, draw
from curation.commands.review.store import Labels, hand_picked, reviewer_name
from curation.commands.review.strata import strata_of
from curation.commands.review.table import OnShard, RowTable, read_table
from curation.commands.review.whatif import Limits, Outcome, changed, count, limits_of, require_finite
from curation.commands.review.written import write_recipe, write_selection
from curation.dataset.label_file import LABELS_NAME, REVIEW_FOLDER, held
from curation.dataset.labels import LABEL
from curation.dataset.tombstones import tombstones_of
from curation.errors import UsageError
from curation.recipe.recipe import Recipe
from curation.run.derived import register

LABELS = ("single", "group", "noface", "drawn", "text", "bw", "sepia")
"""The labels of a new file: what the recipes' filters look for, in the words that `calibrate` knows."""


@dataclass(frozen=True)
class Choices:
    """What the command line asks for."""

    reviewer: str
    labels: Path | None = None
    source: Path | None = None
    words: tuple[str, ...] = ()
    """Labels to offer beside those that are in the file, in place of `LABELS`."""
    num: int = 200
    seed: int = 0


@dataclass
class Desk:
    """A run under review."""

    reviewed: Reviewed
    table: RowTable
    pictures: Pictures
    labels: Labels
    queue: tuple[Draw, ...]
    choices: Choices
    _is_over: Event = field(default_factory=Event)
    _maps: dict[Basis | None, dict[str, Any]] = field(default_factory=dict)

    def start(self) -> Thread:
        """Begin to read captions and where pictures lie, beside all else."""
        thread = Thread(target=self.pictures.read_all, args=(self._is_over,), daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """End that, and remove what was copied."""
        self._is_over.set()
        self.pictures.close()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What does not change while the page is open."""
        recipe, manifest = self.reviewed.recipe, self.reviewed.manifest
        return {
            "run": self.reviewed.run.name,
            "recipe": recipe.name,
            "num_rows": self.table.num_rows,
            "num_kept": manifest.num_kept,
            "rejected": manifest.rejected,
            "limits": limits_of(recipe),
            "scores": {
                score.column: {"is_whole": score.is_whole, "spread": spread(self.table, score)}
                for score in self.table.scores
            },
            "screened": [plan.name for plan in recipe.measurers if plan not in recipe.filters],
            "queue_size": len(self.queue),
            "folder": str(self.labels.path.parent),
        }

    def state(self, reviewer: str) -> dict[str, Any]:
        """Return what a reviewer has before them: what is left of the queue, words for labels, who else is at work."""
        standing, name = self.labels.standing(), reviewer_name(reviewer)
        mine = {label.uid for label in standing if label.reviewer == name}
        given = [label.label for label in standing]
        words = dict.fromkeys((*(self.choices.words or LABELS), *given))
        left = [one for one in self.queue if one.uid not in mine]
        return {
            "reviewer": name,
            "reviewers": sorted({label.reviewer for label in standing} | {name, self.choices.reviewer}),
            "labels": [{"label": word, "num": given.count(word)} for word in words],
            "queue": [vars(one) for one in left[:60]],
            "num_left": len(left),
            "num_done": len(self.queue) - len(left),
            "num_given": len(mine),
            "fraction_read": self.pictures.fraction_read,
        }

    def picture(self, uid: str) -> dict[str, Any] | None:
        """Return all that is known of a picture, with its captions and who said what of it."""
        told = detail(self.reviewed, self.table, uid)
        if told is None:
            return None
        labels = [label for label in self.labels.standing() if label.uid == uid]
        draw_of = next((one for one in self.queue if one.uid == uid), None)
        said = [{"label": label.label, "reviewer": label.reviewer} for label in labels]
        drawn = None if draw_of is None else vars(draw_of)
        return told | {"captions": self.pictures.captions(told["id"]), "labels": said, "drawn": drawn}

    def give(self, uids: Sequence[str], label: str, reviewer: str, *, from_queue: bool) -> None:
        """Take a label; of what the queue has shown, with its stratum and probability.

        Raises:
            UsageError: label, reviewer or a uid do not hold.
        """
        self._require_known(uids)
        drawn = {one.uid: (one.stratum, one.probability) for one in self.queue} if from_queue else {}
        self.labels.give(uids, label, reviewer, lambda uid: drawn.get(uid) or hand_picked(uid))

    def gallery(self, query: Query) -> dict[str, Any]:
        """Return one page of pictures, each with the labels that were given to it."""
        labelled = self._labelled()
        found = page(self.table, query, self.recipe_with(query.limits), labelled)
        given: dict[str, list[str]] = {}
        for uid, label in labelled:
            given.setdefault(uid, []).append(label)
        items = [item | {"labels": given.get(item["uid"], [])} for item in found["items"]]
        return found | {"items": items, "fraction_read": self.pictures.fraction_read}

    def what_if(self, limits: Limits) -> dict[str, Any]:
        """Return what other limits would do."""
        recipe = self.recipe_with(limits)
        return Outcome(recipe, count(self.table, recipe)).values

    def agreement(self) -> list[dict[str, Any]]:
        """Return how far every two reviewers agree."""
        return [
            vars(one) | {"pairs": [[*pair, num] for pair, num in one.pairs.items()]}
            for one in agreements(self.labels.standing())
        ]

    def points(self, basis: Basis | None = None) -> dict[str, Any]:
        """Return the map of the pictures; what was drawn once stays as it is."""
        if basis not in self._maps:
            self._maps[basis] = points(self.table, self.reviewed, basis)
        return self._maps[basis]

    def select(self, name: str, query: Query | None, uids: Sequence[str]) -> tuple[Path, int]:
        """Write a list of pictures, chosen one by one or by a query, and return where and how many.

        Raises:
            UsageError: a uid is no picture of this run, or was forgotten; what a query finds of such is left out.
        """
        if query is not None:
            uids = uids_of(self.table, query, self.recipe_with(query.limits), self._labelled())
        elif uids:
            self._require_known(uids)
        with held(self.labels.path):
            gone = frozenset(self.labels.are_forgotten(uids))
            if gone and query is None:
                raise UsageError(f"{min(gone)} was forgotten, and is on no list any more")
            uids = [uid for uid in uids if uid not in gone]
            return write_selection(
                self.labels.path.parent, name, uids, lambda path: _register(self.reviewed, path)
            ), len(uids)

    def _require_known(self, uids: Sequence[str]) -> None:
        known = {uid for (uid,) in self.table.ask("SELECT uid FROM rows WHERE uid IN (SELECT unnest(?))", [list(uids)])}
        if not uids or (unknown := [uid for uid in uids if uid not in known]):
            raise UsageError(f"{unknown[0] if uids else 'nobody'}: no picture of this run")

    def write(self, name: str, limits: Limits) -> Path:
        """Write a recipe with other limits."""
        return write_recipe(self.labels.path.parent, name, self.reviewed.recipe, require_finite(limits))

    def recipe_with(self, limits: Limits) -> Recipe:
        """Return the run's recipe with other limits.

        Raises:
            RecipeError: one does not hold.
        """
        before = self.reviewed.recipe
        return changed(before.resolved, require_finite(limits), before.name) if limits else before

    def _labelled(self) -> list[tuple[str, str]]:
        return [(label.uid, label.label) for label in self.labels.standing()]


def open_desk(run: Path, choices: Choices, on_shard: OnShard = lambda number: None) -> Desk:
    """Read a run, find out what to ask about it, and see that labels can be added to their file.

    Raises:
        UsageError: there is nothing to review, or a file of labels holds something else.
        ShardError: a ledger cannot be read.
        StorageError: where labels would lie cannot be written to, or the curated folder, which names where they lie.
    """
    for word in choices.words:
        if not LABEL.fullmatch(word):
            raise UsageError(f"label {word!r}: up to 40 of a-z, 0-9, - and _, the first a letter or a digit")
    reviewer_name(choices.reviewer)
    reviewed = open_curated(run, choices.source)
    path = labels_place(reviewed, choices.labels, (REVIEW_FOLDER, LABELS_NAME)).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _register(reviewed, path)
    with held(path):  # so it is there from now on, and missed where it is moved
        pass
    labels = Labels(path, lambda uids: _forgotten(reviewed, uids))
    labels.standing()
    table = read_table(reviewed, on_shard)
    queue = draw(strata_of(table, choices.num, choices.seed), choices.num)
    return Desk(reviewed, table, Pictures(reviewed, table), labels, queue, choices)


def _register(reviewed: Reviewed, path: Path) -> None:
    """Let `forget` find a file that this page writes outside the run's own folder for such."""
    if path.parent.resolve() != (reviewed.run / REVIEW_FOLDER).resolve():
        register(reviewed.folder, path.parent, REVIEW_FOLDER, reviewed.manifest.state, path.name)


def _forgotten(reviewed: Reviewed, uids: Iterable[str]) -> list[str]:
    stones = tombstones_of(reviewed.run)
    return [uid for uid in uids if uid in stones.uids]


def limits_in(values: Mapping[str, Any]) -> Limits:
    """Return the limits of a request as they were sent, of the form that `Query` has."""
    return Query.model_validate({"limits": values}).limits
