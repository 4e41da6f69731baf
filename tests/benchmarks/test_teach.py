"""How heads are taught: the same photos give the same heads, and a source that is judged has taught nothing."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.verdicts.labelled import labelled
from benchmarks.verdicts.learning import (
    NUM_FOLDS,
    Views,
    auc,
    cross_validated,
    digest_of,
    folds_of,
    limit_losing,
    out_of_fold,
    taught,
)
from benchmarks.verdicts.views import masked, varied
from filters.detectors.base import Face
from filters.heads import Classifier, Training
from tests.filters.marks import astronaut

LABELS = ("single", "anime", "group", "noface")
TRAINING = Training(manifest_sha256="12" * 32, num_pictures={})


def photos(num_sources: int = 40) -> Views:
    """Two views of each photo: drawings differ from people by the first feature, things by the second."""
    chance = np.random.default_rng(0)
    sources = [f"source{number}" for number in range(num_sources) for _ in range(4)]
    labels = np.array([LABELS[(number // 4 + number) % 4] for number in range(len(sources))])
    features = chance.normal(0, 1, (2 * len(sources), 6)).astype(np.float32)
    photo_of = np.repeat(np.arange(len(sources)), 2)
    features[:, 0] += 4 * (labels[photo_of] == "anime")
    features[:, 1] += 4 * (labels[photo_of] == "noface")
    return Views(features, photo_of, labels, folds_of(sources, seed=1))


def test_all_photos_of_a_source_lie_in_one_fold_and_the_seed_deals_them() -> None:
    sources = [f"s{number % 17}" for number in range(200)]
    folds = folds_of(sources, 0)
    assert all(
        len({fold for fold, one in zip(folds, sources, strict=True) if one == source}) == 1 for source in sources
    )
    assert set(folds) == set(range(NUM_FOLDS))
    assert (folds == folds_of(sources, 0)).all() and (folds != folds_of(sources, 1)).any()


def test_heads_learn_what_tells_their_class_and_the_same_views_give_the_same_bytes() -> None:
    views = photos()
    everyone = np.ones(len(views.labels), dtype=bool)
    heads = taught(views, everyone, "ab" * 32, TRAINING)
    assert heads.written() == taught(views, everyone, "ab" * 32, TRAINING).written()
    logits = [Classifier(heads).logits(row) for row in views.features_VF]
    labels = views.labels[views.photo_of_V]
    for name, label in (("drawn", "anime"), ("nonhuman", "noface")):
        own = np.array([one[name] for one in logits])
        assert auc(own[labels == label], own[np.isin(labels, ("single", "group"))]) > 0.97


def test_what_a_fold_holds_does_not_change_the_heads_that_judge_it() -> None:
    views = photos()
    rows = views.features_VF[::2]
    spoilt = views.features_VF.copy()
    mine = views.folds[views.photo_of_V] == 3
    spoilt[mine] = 99.0
    before = {tuple(np.flatnonzero(fold)): judge.logits(rows[0]) for fold, judge in out_of_fold(views)}
    after = {
        tuple(np.flatnonzero(fold)): judge.logits(rows[0])
        for fold, judge in out_of_fold(replace(views, features_VF=spoilt))
    }
    same = {fold for fold in before if before[fold] == after[fold]}
    assert same == {tuple(np.flatnonzero(views.folds == 3))}


def test_toned_prints_teach_that_what_they_show_draws_nothing() -> None:
    views = photos()
    is_toned = (views.labels == "group") & (np.arange(len(views.labels)) % 2 == 0)
    dim = views.features_VF.copy()
    dim[:, 2] += 4 * (is_toned | (views.labels == "anime"))[views.photo_of_V]
    prints = replace(views, features_VF=dim, labels=np.where(is_toned, "bw", views.labels))
    without, within = (
        cross_validated(out_of_fold(prints, usable, {"drawn": "anime"}), dim[::2])["drawn"][is_toned].mean()
        for usable in (~is_toned, None)
    )
    assert within < without - 1


def test_every_photo_is_judged_once_and_one_without_features_is_not() -> None:
    views = photos()
    rows = views.features_VF[::2].copy()
    rows[5] = np.nan
    logits = cross_validated(out_of_fold(views), rows)["drawn"]
    assert np.isnan(logits[5]) and np.isfinite(np.delete(logits, 5)).all()


def test_auc_counts_ties_half_and_a_limit_loses_the_share_it_says() -> None:
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == (0.5 + 1 + 1 + 1) / 4
    scores = np.arange(1000.0)
    assert (scores > limit_losing(scores, 0.02)).sum() == 20


def test_views_are_a_function_of_photo_and_seed_and_a_mask_covers_the_mouth_alone() -> None:
    image = astronaut()
    for seed in range(4):
        one, same = (varied(image, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one, same) and one.dtype == np.uint8 and max(one.shape) <= 640
    face = Face(170, 60, 275, 200, 0.9, (200.0, 105.0, 245.0, 105.0, 222.0, 130.0, 205.0, 155.0, 240.0, 155.0))
    cover, same = (masked(image, face, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(cover, same) and cover.shape == image.shape
    changed = np.abs(cover.astype(int) - image).max(axis=2) > 12
    assert changed[145:165, 205:240].mean() > 0.9 and not changed[300:].any() and not changed[:90].any()


def test_the_manifests_digest_says_which_pictures_and_labels_and_not_in_which_order() -> None:
    assert digest_of({"aa": "single", "bb": "anime"}) == digest_of({"bb": "anime", "aa": "single"})
    assert digest_of({"aa": "single"}) == hashlib.sha256(b"aa single\n").hexdigest()


def test_labelled_folders_give_each_bytes_once_with_source_and_tags(tmp_path: Path) -> None:
    for name, text in (
        ("one", "file,label,source,sha256\na.jpg,single,github:o/r:x/a.jpg,22\nb.ppm,bw,github:o/r:b.ppm,33\n"),
        ("two", "file,label,tags,source,sha256\nc.jpg,anime,sketch crop,pypi:p:c.jpg,11\nd.jpg,single,,z,22\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.csv").write_text(text)
    found = labelled([tmp_path / "one", tmp_path / "two"])
    assert [(one.sha256, one.label, one.tags, one.source) for one in found] == [
        ("11", "anime", ("sketch", "crop"), "pypi:p"),
        ("22", "single", (), "github:o/r"),
    ]
