from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.errors import UsageError
from curation.run.derived import derived_of
from facemakeup.config import Recogniser
from facemakeup.data.batch import Batch
from facemakeup.data.cache import CacheReport, fill_cache, plan_of, weights_sha256
from facemakeup.data.dataset import TarDataset, batches, open_dataset
from facemakeup.data.draws import draws_of
from facemakeup.model.encoders import Encoders
from facemakeup.train_config import TrainConfig
from tests.facemakeup import tiny
from tests.facemakeup.data.test_dataset import config_for
from tests.facemakeup.tars import add_tiny_recogniser, packed_sample, write_packed


@pytest.fixture(scope="module")
def encoders(base: Path) -> Encoders:
    return Encoders.load(tiny.tiny_config(base))


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    write_packed(tmp_path / "tars", [packed_sample(n) for n in range(12)], per_shard=6)
    return tmp_path / "tars"


def filled(tars: Path, config: TrainConfig, encoders: Encoders, shards: str = "*.tar") -> CacheReport:
    return fill_cache(config, [f"{tars}/{shards}"], encoders, tars / "work", lambda _: None)


def dataset_of(tars: Path, config: TrainConfig, encoders: Encoders) -> TarDataset:
    return open_dataset([f"{tars}/*.tar"], config, plan_of(config, encoders), tars / "work")[0]


def notes(tars: Path, config: TrainConfig, encoders: Encoders) -> dict[str, int]:
    total: dict[str, int] = {}
    for loaded in islice(batches(dataset_of(tars, config, encoders), 0, 0), 4):
        for note, times in loaded.notes.items():
            total[note] = total.get(note, 0) + times
    return total


def latents(encoders: Encoders, batch: Batch) -> torch.Tensor:
    """The latents of a batch with its posterior noise, whether the moments were cached or not."""
    if batch.has_moments_B.all():
        mean, logvar = batch.moments_BCHW.chunk(2, dim=1)
    else:
        mean, logvar = encoders.base.moments(batch.pixels_BCHW)
    noise = draws_of(0, batch.positions, (4, *mean.shape[2:]), lambda _: 0).posterior_BCHW
    return encoders.base.sample(mean, logvar, noise)


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-6), ("float16", 2e-3)])
def test_cached_latents_and_identities_equal_those_computed_on_the_way(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders, dtype: str, most: float
) -> None:
    online = config_for(base, recogniser)
    cached = config_for(base, recogniser, cache={"folder": str(tars / "cache"), "latent_dtype": dtype})
    report = filled(tars, cached, encoders)
    assert report.counts == {"identity_computed": 12, "latents_computed": 24} and not report.faults
    pairs = zip(*(islice(batches(dataset_of(tars, c, encoders), 0, 0), 4) for c in (online, cached)), strict=True)
    for fresh, stored in pairs:
        assert not fresh.batch.has_moments_B.any() and stored.batch.has_moments_B.all()
        assert stored.notes == {"identity_hit": 2, "latents_hit": 2} and not fresh.notes
        assert torch.equal(fresh.batch.identity_BD, stored.batch.identity_BD)
        assert (latents(encoders, fresh.batch) - latents(encoders, stored.batch)).abs().max() < most


def test_filling_again_computes_nothing_and_a_partial_cache_is_completed(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    (tars / "manifest.json").write_text("{}")  # as if `pack` had written them
    assert filled(tars, config, encoders, "jpg-00000.tar").counts == {"identity_computed": 6, "latents_computed": 12}
    assert {derived.folder.name for derived in derived_of(tars)} >= {"cache", "scans", "shards"}
    partial = notes(tars, config, encoders)
    assert partial["latents_hit"] + partial["latents_missing"] == 8 and partial["latents_missing"] > 0
    before = {path: path.stat().st_mtime_ns for path in (tars / "cache").glob("*/jpg-00000.tar")}
    assert filled(tars, config, encoders).counts == {
        "identity_computed": 6, "identity_hit": 6, "latents_computed": 12, "latents_hit": 12,
    }  # fmt: skip
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 2
    assert notes(tars, config, encoders) == {"identity_hit": 8, "latents_hit": 8}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"crop": {"factor": 1.2}}, {"latents_stale": 8, "identity_hit": 8}),
        ({"crop": {"size": 32}}, {"latents_stale": 8, "identity_hit": 8}),
        ({"cache": {"latent_dtype": "float32"}}, {"latents_missing": 8, "identity_hit": 8}),
    ],
)
def test_a_change_of_crop_or_precision_makes_latents_stale_or_missing_and_never_wrong(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders, change: dict[str, Any], expected: dict[str, int]
) -> None:
    folder = {"folder": str(tars / "cache")}
    filled(tars, config_for(base, recogniser, cache=folder), encoders)
    changed = config_for(base, recogniser, **{**change, "cache": {**folder, **change.get("cache", {})}})
    assert notes(tars, changed, encoders) == expected
    filled(tars, changed, encoders)
    assert notes(tars, changed, encoders) == {"identity_hit": 8, "latents_hit": 8}


def test_another_vae_or_recogniser_never_reads_the_arrays_of_the_first(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders, tmp_path: Path
) -> None:
    folder = {"folder": str(tars / "cache")}
    filled(tars, config_for(base, recogniser, cache=folder), encoders)
    other_base = tiny.write_base(tmp_path / "other", seed=9)
    others = Encoders.load(tiny.tiny_config(other_base))
    assert weights_sha256(others.base.vae) != weights_sha256(encoders.base.vae)
    other = add_tiny_recogniser(tmp_path, seed=3)
    assert notes(tars, config_for(other_base, other, cache=folder), others) == {
        "identity_missing": 8, "latents_missing": 8,
    }  # fmt: skip


def test_a_picture_that_changes_under_its_uid_makes_its_arrays_stale(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    filled(tars, config, encoders)
    changed = []
    for n in range(12):
        members = packed_sample(n + 20)
        uid, old = members[0][0].partition(".")[0], packed_sample(n)[0][0].partition(".")[0]
        changed.append(
            [(name.replace(uid, old), content.replace(uid.encode(), old.encode())) for name, content in members]
        )
    write_packed(tars, changed, per_shard=6)
    assert notes(tars, config, encoders) == {"identity_stale": 8, "latents_stale": 8}


def test_two_shards_of_one_name_and_a_missing_folder_are_refused(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    write_packed(tars / "more", [packed_sample(30)])
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    with pytest.raises(UsageError, match="two shards are named 'jpg-00000'"):
        fill_cache(config, [f"{tars}/*.tar", f"{tars}/more/*.tar"], encoders, tars / "work", lambda _: None)
    with pytest.raises(UsageError, match=r"cache\.folder"):
        filled(tars, config_for(base, recogniser), encoders)


def test_an_unusable_sample_is_a_counted_reason_of_the_cache_too(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    write_packed(tars, [packed_sample(40), packed_sample(41, face_landmarks=None)], series="png")
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    report = filled(tars, config, encoders, "png-*.tar")
    assert [fault.reason for fault in report.faults] == ["no_face"]
    assert report.counts["identity_computed"] == 1


def test_the_identity_of_weights_is_that_of_their_values(encoders: Encoders) -> None:
    before = weights_sha256(encoders.base.vae)
    assert before == weights_sha256(encoders.base.vae)
    parameter: Any = next(encoders.base.vae.parameters())
    saved = parameter.detach().clone()
    with torch.no_grad():
        parameter.view(-1)[0] += np.float32(1e-3)
        assert weights_sha256(encoders.base.vae) != before
        parameter.copy_(saved)
    assert weights_sha256(encoders.base.vae) == before
