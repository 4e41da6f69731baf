"""Heads that were tried beside the logistic ones: what each can tell, and how little a product needs to be told."""

import numpy as np

from benchmarks.verdicts.other_heads import Lesson, logistic, radial, second_degree
from curation.learning.heads import auc


def test_what_only_a_product_of_features_tells_is_told_by_the_second_degree_and_by_few_directions_of_it() -> None:
    rows = np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32)
    is_drawn = rows[:, 0] * rows[:, 1] > 0
    lesson = Lesson.of(list(rows[:200, None]), is_drawn[:200], np.ones(200))

    def of(scores: np.ndarray) -> float:
        return auc(scores[is_drawn[200:]], scores[~is_drawn[200:]])

    asked = rows[200:]
    whole, few = second_degree(lesson, asked, 0.03), second_degree(lesson, asked, 0.03, 2)
    assert of(logistic(lesson, asked, 0.01)) < 0.65
    assert min(of(whole), of(few), of(radial(lesson, asked, 0.003))) > 0.8
    assert np.allclose(second_degree(lesson, asked, 0.03, 8), whole, atol=1e-3)


def test_both_sides_of_a_lesson_weigh_the_same_however_many_views_a_photo_has() -> None:
    views = [np.zeros((count, 3), dtype=np.float32) for count in (1, 4, 2)]
    lesson = Lesson.of(views, np.array([True, False, False]), np.array([1.0, 1.0, 0.25]))
    assert np.isclose(lesson.weights[lesson.is_drawn].sum(), 0.5) and np.isclose(lesson.weights.sum(), 1)
    assert np.allclose(lesson.weights[1:], 0.5 * np.array([1, 1, 1, 1, 0.25, 0.25]) / 4.5)
