"""What the labelled photos of the benchmarks are, and what they teach."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.verdicts.labelled import labelled
from benchmarks.verdicts.learning import LESSONS
from benchmarks.verdicts.views import masked, varied
from curation.learning.heads import cross_validated, out_of_fold
from filters.detectors.base import Face
from tests.curation.learning.test_heads import photos
from tests.filters.marks import astronaut


def test_toned_prints_teach_that_what_they_show_draws_nothing() -> None:
    views = photos()
    is_toned = (views.labels == "group") & (np.arange(len(views.labels)) % 2 == 0)
    dim = views.features_VF.copy()
    dim[:, 2] += 4 * (is_toned | (views.labels == "anime"))[views.photo_of_V]
    prints = replace(views, features_VF=dim, labels=np.where(is_toned, "bw", views.labels))
    without, within = (
        cross_validated(out_of_fold(prints, {"drawn": LESSONS["drawn"]}, usable), dim[::2])["drawn"][is_toned].mean()
        for usable in (~is_toned, None)
    )
    assert within < without - 1


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


def test_labelled_folders_give_each_bytes_once_with_source_and_tags(tmp_path: Path) -> None:
    one, two, three = ("1" * 64, "2" * 64, "3" * 64)
    for name, text in (
        (
            "one",
            f"file,label,source,sha256\na.jpg,single,github:o/r:x/a.jpg,{two}\nb.ppm,bw,github:o/r:b.ppm,{three}\n",
        ),
        ("two", f"file,label,tags,source,sha256\nc.jpg,anime,sketch crop,pypi:p:c.jpg,{one}\nd.jpg,single,,z,{two}\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.csv").write_text(text)
    found = labelled([tmp_path / "one", tmp_path / "two"])
    assert [(photo.sha256, photo.label, photo.tags, photo.source) for photo in found] == [
        (one, "anime", ("sketch", "crop"), "pypi:p"),
        (two, "single", (), "github:o/r"),
    ]
