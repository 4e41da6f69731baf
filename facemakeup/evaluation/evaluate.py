"""One evaluation, files in and files out: what `facecaptionhq evaluate` does."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from curation.errors import UsageError, WeightsError
from curation.images.decode import UnreadableError, decode
from curation.recipe.settings import DecodeLimits
from curation.storage.publish import publish, publish_json
from curation.version import CODE_VERSION
from facemakeup.evaluation.columns import Background, JudgedPicture, Measured, calibrations, row_cells, vector
from facemakeup.evaluation.copy_paste import NO_OTHER_PHOTO
from facemakeup.evaluation.estimate import Failure
from facemakeup.evaluation.generators.base import Reference
from facemakeup.evaluation.leakage import Leakage, Trace, check_leakage, read_identities, read_index, with_nearest
from facemakeup.evaluation.page import ShownPictures, render
from facemakeup.evaluation.panel import FACE, Panel, load_panel
from facemakeup.evaluation.pictures import Studio, folder_of, made_elsewhere
from facemakeup.evaluation.protocol import Case, cases
from facemakeup.evaluation.published import published
from facemakeup.evaluation.reference_set import Photo, ReferenceSet, read_manifest
from facemakeup.evaluation.seen import Seen
from facemakeup.evaluation.settings import EvaluationSettings, JudgeSettings
from facemakeup.evaluation.table import Row, Table, as_json, as_markdown
from filters import faces
from filters.base import Filter
from filters.look import phash_of

RECORD, PAGE, HTML, PICTURES = "evaluation.json", "evaluation.md", "evaluation.html", "pictures"
UNREADABLE = "unreadable"

Told = Callable[[str], None]


def evaluate(
    settings: EvaluationSettings, root: Path, target: Path, judges: str = "all", told: Told = lambda _: None
) -> Table:
    """Draw what is to be drawn, score every method's pictures, write the table into `target`, and return it.

    It is `evaluation.json`, `evaluation.md` and, with the pictures, `evaluation.html`; what was drawn lies in
    `pictures`, and an evaluation that was interrupted goes on with it. Paths in `settings` are relative to `root`. With
    `judges` "all" every judge must be had; with "here" those that are not are named in the table, with what to type.

    Raises:
        UsageError: a manifest or a folder does not hold, or pictures of a method are not there at all.
        WeightsError: judges are missing, and all are wanted.
    """
    if (target / RECORD).exists():
        raise UsageError(f"{target}: holds an evaluation already ({RECORD}); name another folder")
    photos = read_manifest(root / settings.set.manifest, settings.set.name)
    wanted = cases(photos, settings.protocol)
    folders = {m.name: folder_of(m, root, wanted) for m in settings.methods if m.generator is None}
    panel = panel_of(settings)
    if judges == "all" and panel.absent:
        raise WeightsError(
            f"{len(panel.absent)} judges are not here; `--judges here` goes on without them:",
            *(f"  {absent.name} ({', '.join(absent.columns)}): {absent.how}" for absent in panel.absent),
        )
    target.mkdir(parents=True, exist_ok=True)
    table, shown = _scored(settings, root, photos, wanted, folders, panel, told, target / PICTURES)
    publish(target / PAGE, lambda path: path.write_text(as_markdown(table), encoding="utf-8"))
    publish(target / HTML, lambda path: path.write_text(render(table, shown), encoding="utf-8"))
    record = {"code_version": CODE_VERSION, "settings": settings.model_dump(mode="json"), **as_json(table)}
    publish_json(target / RECORD, record)
    return table


def panel_of(settings: EvaluationSettings | None) -> Panel:
    """Return the judges of an evaluation; without one, those that can be had with no configuration."""
    if settings is None:
        return load_panel(JudgeSettings(), accept_noncommercial=False)
    return load_panel(settings.judges, settings.faces.accept_noncommercial, settings.device)


def _scored(  # long: what the table names
    settings: EvaluationSettings,
    root: Path,
    photos: ReferenceSet,
    wanted: Sequence[Case],
    folders: Mapping[str, Path],
    panel: Panel,
    told: Told,
    target: Path,
) -> tuple[Table, list[ShownPictures]]:
    finder = settings.faces
    detector = faces.build(finder.measure, "cpu")
    look = _Looker(panel, detector)
    told(f"{len(photos.photos)} photos")
    real = {photo.key: look(photo.path) for photo in photos.photos}
    background = Background(
        {photo.key: real[photo.key] for photo in photos.references},
        {photo.key: photo.identity for photo in photos.photos},
        _own_means(settings, root, photos, real, look),
    )
    references = {photo.key: look.reference(photo.path) for photo in photos.references} if _draws(settings) else {}
    studio = Studio(target, wanted, references, finder.accept_noncommercial, settings.device)
    rows: list[Row] = []
    anchors: list[Row] = []
    shown: list[ShownPictures] = []
    for number, method in enumerate(settings.methods, start=1):
        told(f"{method.name}: {len(wanted)} pictures")
        elsewhere = folders.get(method.name)
        for made in studio.rows(method, number) if elsewhere is None else [made_elsewhere(method, elsewhere, wanted)]:
            measured = [path if isinstance(path, Failure) else look(path) for path in made.pictures]
            cells = row_cells(_beside(wanted, measured, photos, real), panel, background, made.recogniser)
            facts = {"recogniser": made.recogniser, "pictures_sha256": _digest(made.pictures), **made.facts}
            (anchors if made.is_anchor else rows).append(Row(made.name, made.is_anchor, facts, cells))
            shown.append(ShownPictures(made.name, made.pictures))
    rows += [*anchors, *_anchors(wanted, photos, real, panel, background)]
    table = Table(
        set_name=photos.name,
        note=settings.note,
        protocol=settings.protocol,
        num_references=len(photos.references),
        num_identities=len({photo.identity for photo in photos.references}),
        identities=[case.reference.identity for case in wanted],
        rows=rows,
        panel=panel,
        calibrations=background.calibrations,
        published=published(photos.name),
        leakage=_leakage(settings, root, photos, real, background, panel),
    )
    return table, [*_photos_shown(wanted, photos), *shown]


def _draws(settings: EvaluationSettings) -> bool:
    return any(method.generator is not None for method in settings.methods)


def _photos_shown(wanted: Sequence[Case], photos: ReferenceSet) -> list[ShownPictures]:
    """Return what stands beside every picture on the page: prompts, references, other photos."""
    others = [photos.other_of.get(case.reference.identity) for case in wanted]
    return [
        ShownPictures("reference", [case.reference.path for case in wanted], [case.prompt for case in wanted]),
        ShownPictures("another photo", [Failure(NO_OTHER_PHOTO) if photo is None else photo.path for photo in others]),
    ]


class _Looker:
    """Lets the panel see each file once."""

    def __init__(self, panel: Panel, detector: Filter) -> None:
        self._panel = panel
        self._detector = detector
        self._known: dict[Path, Measured] = {}

    def __call__(self, path: Path) -> Measured:
        if path not in self._known:
            self._known[path] = self._measured(path)
        return self._known[path]

    def reference(self, path: Path) -> Reference | Failure:
        """Return a photo as methods are given it, or why nothing can be drawn from it."""
        seen = self._seen(path)
        if isinstance(seen, Failure):
            return seen
        return seen.face if isinstance(seen.face, Failure) else Reference(seen.rgb, seen.face)

    def _measured(self, path: Path) -> Measured:
        seen = self._seen(path)
        return seen if isinstance(seen, Failure) else self._panel.measure(seen)

    def _seen(self, path: Path) -> Seen | Failure:
        try:
            return Seen(decode(path.read_bytes(), DecodeLimits().admitting_all()).rgb, self._detector)
        except UnreadableError:
            return Failure(UNREADABLE)


def _beside(
    wanted: Sequence[Case], made: Sequence[Measured], photos: ReferenceSet, real: Mapping[str, Measured]
) -> list[JudgedPicture]:
    """Return every picture with the photos that it is judged by."""

    def other_of(photo: Photo) -> Measured:
        other = photos.other_of.get(photo.identity)
        return Failure(NO_OTHER_PHOTO) if other is None else real[other.key]

    return [
        JudgedPicture(
            case.reference.identity, case.prompt, generated, real[case.reference.key], other_of(case.reference)
        )
        for case, generated in zip(wanted, made, strict=True)
    ]


def _anchors(
    wanted: Sequence[Case], photos: ReferenceSet, real: Mapping[str, Measured], panel: Panel, background: Background
) -> list[Row]:
    """Return what real photos score in a method's place."""
    strangers = {photo.key: photos.stranger_of(number) for number, photo in enumerate(photos.references)}

    def shown(photo: Photo | None, reason: str) -> Measured:
        return Failure(reason) if photo is None else real[photo.key]

    places = {
        "the pasted reference": [shown(case.reference, "") for case in wanted],
        "another photo of the person": [
            shown(photos.other_of.get(case.reference.identity), NO_OTHER_PHOTO) for case in wanted
        ],
        "a stranger": [shown(strangers[case.reference.key], "no_stranger") for case in wanted],
    }
    rows = []
    for name, made in places.items():
        cells = row_cells(_beside(wanted, made, photos, real), panel, background, None)
        rows.append(Row(name, True, {}, cells))
    return rows


def _own_means(
    settings: EvaluationSettings, root: Path, photos: ReferenceSet, real: Mapping[str, Measured], look: _Looker
) -> Any:
    """Return what the recognisers give for the calibration photos, else for the set itself."""
    if settings.set.calibration is None:
        return calibrations(real, {photo.key: photo.identity for photo in photos.photos})
    others = read_manifest(root / settings.set.calibration, "calibration")
    measured = {photo.key: look(photo.path) for photo in others.photos}
    return calibrations(measured, {photo.key: photo.identity for photo in others.photos})


def _leakage(
    settings: EvaluationSettings, root: Path, photos: ReferenceSet, real: Mapping[str, Measured],
    background: Background, panel: Panel,
) -> Leakage | None:  # fmt: skip
    index, people = settings.set.training_index, settings.set.training_identities
    if index is None and people is None:
        return None
    limits = DecodeLimits().admitting_all()
    traces = [
        Trace(photo.key, photo.uid, photo.sha256, phash_of(decode(photo.path.read_bytes(), limits).rgb))
        for photo in photos.references
    ]
    found = check_leakage(traces, {} if index is None else read_index(root / index))
    if people is not None:
        found = _with_people(found, root / people, background, panel)
    return replace(found, leaks=tuple(sorted(set(found.leaks), key=lambda leak: (leak.key, leak.by, leak.sample))))


def _with_people(found: Leakage, folder: Path, background: Background, panel: Panel) -> Leakage:
    """Look for the people of a training's cache, with the vectors of the recogniser that made it."""
    trained = read_identities(folder)
    judge = next((judge for judge in panel.judges if judge.name == trained.recogniser), None)
    if judge is None or judge.facts.get("sha256") != trained.sha256:
        raise UsageError(
            f"{folder}: vectors of {trained.recogniser} (sha256 {trained.sha256[:12]}), which is not among the judges; "
            f"add it to judges.recognisers"
        )
    key = f"{FACE}/{judge.name}"
    there = {k: row for k, m in background.references.items() if not isinstance(row := vector(m, key), Failure)}
    return with_nearest(found, there, trained, background.calibrations[key])


def _digest(pictures: Sequence[Path | Failure]) -> str:
    """Return one sha256 for all pictures of a method, in the order of the cases."""
    digest = hashlib.sha256()
    for path in pictures:
        digest.update(hashlib.sha256(path.read_bytes() if isinstance(path, Path) else b"").digest())
    return digest.hexdigest()
