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
from facemakeup.evaluation.columns import Background, JudgedPicture, Measured, calibrations, row_cells
from facemakeup.evaluation.copy_paste import NO_OTHER_PHOTO
from facemakeup.evaluation.estimate import Failure
from facemakeup.evaluation.leakage import Leakage, Trace, check_leakage, read_index
from facemakeup.evaluation.panel import Panel, load_panel
from facemakeup.evaluation.protocol import Case, cases, find_picture
from facemakeup.evaluation.published import published
from facemakeup.evaluation.reference_set import Photo, ReferenceSet, read_manifest
from facemakeup.evaluation.seen import Seen
from facemakeup.evaluation.settings import EvaluationSettings, JudgeSettings, MethodSettings
from facemakeup.evaluation.table import Row, Table, as_json, as_markdown
from filters import faces
from filters.base import Filter
from filters.look import phash_of

RECORD, PAGE = "evaluation.json", "evaluation.md"
MISSING, UNREADABLE = "missing", "unreadable"

Told = Callable[[str], None]


def evaluate(
    settings: EvaluationSettings, root: Path, target: Path, judges: str = "all", told: Told = lambda _: None
) -> Table:
    """Score every method's pictures, write `evaluation.json` and `evaluation.md` into `target`, and return the table.

    Paths in `settings` are relative to `root`. With `judges` "all" every judge must be had; with "here" those that are
    not are named in the table, with what to type.

    Raises:
        UsageError: a manifest or a folder does not hold, or pictures of a method are not there at all.
        WeightsError: judges are missing, and all are wanted.
    """
    if (target / RECORD).exists():
        raise UsageError(f"{target}: holds an evaluation already ({RECORD}); name another folder")
    photos = read_manifest(root / settings.set.manifest, settings.set.name)
    wanted = cases(photos, settings.protocol)
    folders = {method.name: _folder(method, root, wanted) for method in settings.methods}
    panel = panel_of(settings)
    if judges == "all" and panel.absent:
        lacking = "".join(f"\n  {absent.name} ({', '.join(absent.columns)}): {absent.how}" for absent in panel.absent)
        raise WeightsError(f"{len(panel.absent)} judges are not here; `--judges here` goes on without them:{lacking}")
    table = _scored(settings, root, photos, wanted, folders, panel, told)
    target.mkdir(parents=True, exist_ok=True)
    publish(target / PAGE, lambda path: path.write_text(as_markdown(table), encoding="utf-8"))
    record = {"code_version": CODE_VERSION, "settings": settings.model_dump(mode="json"), **as_json(table)}
    publish_json(target / RECORD, record)
    return table


def panel_of(settings: EvaluationSettings | None) -> Panel:
    """Return the judges of an evaluation; without one, those that can be had with no configuration."""
    if settings is None:
        return load_panel(JudgeSettings(), accept_noncommercial=False)
    return load_panel(settings.judges, settings.faces.accept_noncommercial, settings.device)


def _scored(
    settings: EvaluationSettings,
    root: Path,
    photos: ReferenceSet,
    wanted: Sequence[Case],
    folders: Mapping[str, Path],
    panel: Panel,
    told: Told,
) -> Table:
    finder = settings.faces
    detector = faces.build(faces.Measure(detector=finder.detector, weights=finder.weights), "cpu")
    look = _Looker(panel, detector)
    told(f"{len(photos.photos)} photos")
    real = {photo.key: look(photo.path) for photo in photos.photos}
    background = Background(
        {photo.key: real[photo.key] for photo in photos.references},
        {photo.key: photo.identity for photo in photos.photos},
        _own_means(settings, root, photos, real, look),
    )
    rows = []
    for method in settings.methods:
        told(f"{method.name}: {len(wanted)} pictures")
        paths = [find_picture(folders[method.name], case) for case in wanted]
        made = [Failure(MISSING) if path is None else look(path) for path in paths]
        pictures = _beside(wanted, made, photos, real)
        facts = {"recogniser": method.recogniser, "pictures_sha256": _digest(paths), **method.facts}
        rows.append(Row(method.name, False, facts, row_cells(pictures, panel, background, method.recogniser)))
    rows += _anchors(wanted, photos, real, panel, background)
    return Table(
        set_name=photos.name,
        protocol=settings.protocol,
        num_references=len(photos.references),
        num_identities=len({photo.identity for photo in photos.references}),
        identities=[case.reference.identity for case in wanted],
        rows=rows,
        panel=panel,
        calibrations=background.calibrations,
        published=published(photos.name),
        leakage=_leakage(settings, root, photos),
    )


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

    def _measured(self, path: Path) -> Measured:
        try:
            rgb = decode(path.read_bytes(), DecodeLimits().admitting_all()).rgb
        except UnreadableError:
            return Failure(UNREADABLE)
        return self._panel.measure(Seen(rgb, self._detector))


def _folder(method: MethodSettings, root: Path, wanted: Sequence[Case]) -> Path:
    folder = root / method.images
    if not folder.is_dir():
        raise UsageError(f"{method.name}: {folder} is no folder")
    if not any(find_picture(folder, case) for case in wanted):
        raise UsageError(
            f"{method.name}: {folder} holds not one picture of the protocol; they are called {wanted[0].stem}.png "
            f"(or .jpg, .jpeg, .webp), and so on for every reference"
        )
    return folder


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


def _leakage(settings: EvaluationSettings, root: Path, photos: ReferenceSet) -> Leakage | None:
    if settings.set.training_index is None:
        return None
    index = read_index(root / settings.set.training_index)
    limits = DecodeLimits().admitting_all()
    traces = [
        Trace(photo.key, photo.uid, photo.sha256, phash_of(decode(photo.path.read_bytes(), limits).rgb))
        for photo in photos.references
    ]
    found = check_leakage(traces, index)
    return replace(found, leaks=tuple(sorted(set(found.leaks), key=lambda leak: (leak.key, leak.by, leak.sample))))


def _digest(paths: Sequence[Path | None]) -> str:
    """Return one sha256 for all pictures of a method, in the order of the cases."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes() if path else b"").digest())
    return digest.hexdigest()
