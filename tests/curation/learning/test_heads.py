"""How heads are taught: the same photos give the same heads, and a source that is judged has taught nothing."""

import hashlib
from dataclasses import replace

import numpy as np

from curation.learning.heads import (
    NUM_FOLDS,
    Lesson,
    Views,
    auc,
    cross_validated,
    digest_of,
    folds_of,
    limit_losing,
    out_of_fold,
    taught,
)
from curation.learning.second_degree import left_out, products, shares_of
from filters.heads import Classifier, Heads, Training

LABELS = ("single", "anime", "group", "noface")
TRAINING = Training(manifest_sha256="12" * 32, num_pictures={})
PEOPLE = {"single": 1.0, "group": 1.0}
LESSONS = {"drawn": Lesson("anime", PEOPLE), "nonhuman": Lesson("noface", PEOPLE)}


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
    heads = taught(views, everyone, "ab" * 32, TRAINING, LESSONS)
    assert heads.written() == taught(views, everyone, "ab" * 32, TRAINING, LESSONS).written()
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
    before = {tuple(np.flatnonzero(fold)): judge.logits(rows[0]) for fold, judge in out_of_fold(views, LESSONS)}
    after = {
        tuple(np.flatnonzero(fold)): judge.logits(rows[0])
        for fold, judge in out_of_fold(replace(views, features_VF=spoilt), LESSONS)
    }
    same = {fold for fold in before if before[fold] == after[fold]}
    assert same == {tuple(np.flatnonzero(views.folds == 3))}


def test_every_photo_is_judged_once_and_one_without_features_is_not() -> None:
    views = photos()
    rows = views.features_VF[::2].copy()
    rows[5] = np.nan
    logits = cross_validated(out_of_fold(views, LESSONS), rows)["drawn"]
    assert np.isnan(logits[5]) and np.isfinite(np.delete(logits, 5)).all()


def test_auc_counts_ties_half_and_a_limit_loses_the_share_it_says() -> None:
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == (0.5 + 1 + 1 + 1) / 4
    scores = np.arange(1000.0)
    assert (scores > limit_losing(scores, 0.02)).sum() == 20


def test_the_manifests_digest_says_which_pictures_and_labels_and_not_in_which_order() -> None:
    assert digest_of({"aa": "single", "bb": "anime"}) == digest_of({"bb": "anime", "aa": "single"})
    assert digest_of({"aa": "single"}) == hashlib.sha256(b"aa single\n").hexdigest()


def test_a_head_that_takes_anothers_place_leaves_the_other_heads_what_they_were() -> None:
    views = photos()
    everyone = np.ones(len(views.labels), dtype=bool)
    before = taught(views, everyone, "ab" * 32, TRAINING, LESSONS)
    other = Training(manifest_sha256="34" * 32, num_pictures={"single": 1})
    after = taught(views, everyone, "ab" * 32, other, {"drawn": Lesson("group", {"single": 1.0})}, before)
    read = Heads.model_validate_json(after.written())
    assert read == after and (read.training_of("drawn"), read.training_of("nonhuman")) == (other, TRAINING)
    row = views.features_VF[0]
    old, new = (Classifier(heads).logits(row) for heads in (before, after))
    assert old["nonhuman"] == new["nonhuman"] and old["drawn"] != new["drawn"]


def test_a_fold_whose_loss_leaves_nothing_to_tell_judges_nobody() -> None:
    views = photos()
    only = replace(views, labels=np.where((views.labels == "anime") & (views.folds != 2), "group", views.labels))
    judged = np.isfinite(
        cross_validated(out_of_fold(only, {"drawn": LESSONS["drawn"]}), only.features_VF[::2])["drawn"]
    )
    assert (judged == (only.folds != 2)).all()


def test_what_only_products_tell_is_told_along_directions_as_log_odds_and_a_line_tells_nothing() -> None:
    chance = np.random.default_rng(2)
    features = chance.normal(0, 1, (400, 6)).astype(np.float32)
    features[:, 4:] = np.abs(features[:, 4:])
    labels = np.where(features[:, 0] * features[:, 1] + chance.normal(0, 0.3, 400) > 0, "anime", "single")
    sources = [f"source{number // 5}" for number in range(400)]
    views = Views(features, np.arange(400), labels, folds_of(sources, 0), chance.choice([0.3, 1.0], 400), roots_from=4)
    of = {
        name: cross_validated(out_of_fold(views, {"drawn": Lesson("anime", PEOPLE, directions)}), features)["drawn"]
        for name, directions in (("line", 0), ("squares", 4))
    }
    is_drawn = labels == "anime"
    assert auc(of["line"][is_drawn], of["line"][~is_drawn]) < 0.6
    assert auc(of["squares"][is_drawn], of["squares"][~is_drawn]) > 0.8
    odds = 1 / (1 + np.exp(-of["squares"]))
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):  # of many that look so likely so many are
        these = (odds >= low) & (odds < high)
        assert these.sum() > 30 and abs(is_drawn[these].mean() - odds[these].mean()) < 0.12


def test_what_a_fold_would_score_without_itself_is_known_without_teaching_again() -> None:
    chance = np.random.default_rng(0)
    rows = chance.normal(0, 1, (60, 4)).astype(np.float32)
    is_positive, folds = chance.random(60) < 0.4, chance.integers(0, 5, 60)
    weights = np.full(60, 1 / 60)
    found = left_out(*shares_of(products(rows, rows), is_positive, weights, 0.03), is_positive, folds)
    others = folds != 2
    # The slack is relative to the number of rows: 60 stays, as in the whole.
    slack = np.diag(10 * 0.03 / weights[others] / 60)
    kernel = products(rows[others], rows[others]) + slack
    shares = np.linalg.solve(kernel, np.where(is_positive[others], 1.0, -1.0))
    assert np.allclose(found[~others], products(rows[~others], rows[others]) @ shares, atol=1e-9)
