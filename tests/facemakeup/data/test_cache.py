import json
import os
import pickle
import signal
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import tomlkit
import torch

from curation.commands.forget.reach import Copy
from curation.commands.forget.scrub import scrub
from curation.commands.forget.traces import Traces
from curation.dataset.tombstones import Tombstones, write_tombstones
from curation.errors import UsageError
from curation.run.derived import CACHE, derived_of
from facemakeup.config import Recogniser
from facemakeup.data import fill
from facemakeup.data.batch import Batch, collate
from facemakeup.data.cache import CacheReport, _Jobs, fill_cache, gpus_per_worker
from facemakeup.data.caches import plan_of, weights_sha256
from facemakeup.data.dataset import TarDataset, batches, open_dataset
from facemakeup.data.draws import draws_of
from facemakeup.data.fill import fill_shard
from facemakeup.data.order import Place
from facemakeup.data.sidecar import Name, Sidecar
from facemakeup.data.takedowns import remembering
from facemakeup.faults import DataError, ReadingError
from facemakeup.model.encoders import CacheEncoders, Encoders, LatentEncoders
from facemakeup.train_config import TrainConfig
from tests.curation.cluster import processes_of
from tests.facemakeup import processes, tiny
from tests.facemakeup.data.test_dataset import config_for
from tests.facemakeup.runs import run_config, trainer_of
from tests.facemakeup.tars import add_tiny_recogniser, packed_sample, write_packed


@pytest.fixture(scope="module")
def encoders(base: Path) -> Encoders:
    return Encoders.load(tiny.tiny_config(base))


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    write_packed(tmp_path / "tars", [packed_sample(n) for n in range(12)], per_shard=6)
    return tmp_path / "tars"


ALL_HIT = {"face_hit": 8, "identity_hit": 8, "latents_hit": 8}


def filled(tars: Path, config: TrainConfig, encoders: CacheEncoders, shards: str = "*.tar") -> CacheReport:
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
        mean, logvar = batch.moments_MCHW.float().chunk(2, dim=1)
    else:
        mean, logvar = encoders.base.moments(batch.pixels)
    noise = draws_of(0, batch.positions, (4, *mean.shape[2:]), lambda _: 0).posterior_BCHW
    return encoders.base.sample(mean, logvar, noise)


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-6), ("float16", 2e-3)])
def test_cached_latents_and_identities_equal_those_computed_on_the_way(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders, dtype: str, most: float
) -> None:
    online = config_for(base, recogniser)
    cached = config_for(base, recogniser, cache={"folder": str(tars / "cache"), "latent_dtype": dtype})
    report = filled(tars, cached, encoders)
    assert report.counts == {"face_computed": 12, "identity_computed": 12, "latents_computed": 24}
    assert not report.faults and not report.failed
    pairs = zip(*(islice(batches(dataset_of(tars, c, encoders), 0, 0), 4) for c in (online, cached)), strict=True)
    for fresh, stored in pairs:
        assert not fresh.batch.has_moments_B.any() and stored.batch.has_moments_B.all()
        assert stored.notes == {"identity_hit": 2, "latents_hit": 2, "face_hit": 2} and not fresh.notes
        assert not len(stored.batch.pixels_KHWC) and len(fresh.batch.pixels_KHWC) == 2
        for name in ("identity_BD", "faces_BSSC", "pose_places_N", "pose_colours_N3"):
            assert torch.equal(getattr(fresh.batch, name), getattr(stored.batch, name)), name
        assert (latents(encoders, fresh.batch) - latents(encoders, stored.batch)).abs().max() < most


def test_filling_again_computes_nothing_and_a_partial_cache_is_completed(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    (tars / "manifest.json").write_text("{}")  # as if `pack` had written them
    assert filled(tars, config, encoders, "jpg-00000.tar").counts == {
        "face_computed": 6, "identity_computed": 6, "latents_computed": 12,
    }  # fmt: skip
    assert {derived.folder.name for derived in derived_of(tars)} >= {"cache", "scans", "shards"}
    partial = notes(tars, config, encoders)
    assert partial["latents_hit"] + partial["latents_missing"] == 8 and partial["latents_missing"] > 0
    before = {path: path.stat().st_mtime_ns for path in (tars / "cache").glob("*/jpg-00000.tar")}
    assert filled(tars, config, encoders).counts == {
        "face_computed": 6, "face_hit": 6, "identity_computed": 6, "identity_hit": 6, "latents_computed": 12,
        "latents_hit": 12,
    }  # fmt: skip
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 3
    assert notes(tars, config, encoders) == ALL_HIT


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"crop": {"factor": 1.2}}, {"latents_stale": 8, "identity_hit": 8, "face_hit": 8}),
        ({"crop": {"size": 32}}, {"latents_stale": 8, "identity_hit": 8, "face_hit": 8}),
        ({"cache": {"latent_dtype": "float32"}}, {"latents_missing": 8, "identity_hit": 8, "face_hit": 8}),
        ({"data": {"decode": {"max_pixels": 10_000}}}, {"latents_hit": 8, "identity_hit": 8, "face_missing": 8}),
    ],
)
def test_a_change_of_crop_precision_or_limits_makes_latents_stale_or_missing_and_never_wrong(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders, change: dict[str, Any], expected: dict[str, int]
) -> None:
    folder = {"folder": str(tars / "cache")}
    filled(tars, config_for(base, recogniser, cache=folder), encoders)
    changed = config_for(base, recogniser, **{**change, "cache": {**folder, **change.get("cache", {})}})
    assert notes(tars, changed, encoders) == expected
    filled(tars, changed, encoders)
    assert notes(tars, changed, encoders) == ALL_HIT


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
        "face_hit": 8, "identity_missing": 8, "latents_missing": 8,
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
    assert notes(tars, config, encoders) == {"face_stale": 8, "identity_stale": 8, "latents_stale": 8}


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
    broken = [packed_sample(41, face_landmarks=None), packed_sample(42, face_landmarks=[9.0] * 10)]
    write_packed(tars, [packed_sample(40), *broken, packed_sample(43, width=90)], series="png")
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    report = filled(tars, config, encoders, "png-*.tar")
    assert [fault.reason for fault in report.faults] == ["no_face", "degenerate_face"]
    assert report.counts["identity_computed"] == 2


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


def test_what_is_cached_needs_no_decoder_and_a_picture_that_the_decoder_would_refuse_has_no_cached_face(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    filled(tars, config, encoders)
    without = config_for(base, recogniser, cache={"folder": str(tars / "cache"), "faces": False})
    limits = {"decode": {"max_pixels": 5000}}
    strict = config_for(base, recogniser, cache={"folder": str(tars / "cache")}, data=limits)
    with pytest.raises(DataError, match="unreadable"):
        _ = dataset_of(tars, strict, encoders)[0]
    cached, decoding = dataset_of(tars, config, encoders), dataset_of(tars, without, encoders)
    whole = cached.with_pixels()[0].batch
    assert len(whole.pixels_KHWC) == 2 and not whole.has_moments_B.any()
    monkeypatch.setattr("facemakeup.data.raw_sample.open_picture", lambda *_: pytest.fail("decoded"))
    assert len(cached[0].batch.uids) == 2
    with pytest.raises(pytest.fail.Exception, match="decoded"):
        _ = decoding[0]


def test_the_latents_of_a_batch_that_is_cached_in_part_stand_in_its_order(
    tars: Path, base: Path, recogniser: Recogniser, tmp_path: Path
) -> None:
    config = run_config(base, recogniser, cache={"folder": str(tars / "cache"), "latent_dtype": "float32"})
    trainer, dataset = trainer_of(config, f"{tars}/*.tar", tmp_path / "work")
    samples = [dataset.sample(Place(n, 0, n)) for n in range(4)]
    fresh = trainer.moments(collate(samples, range(4)))
    kept = [torch.cat([half[n] for half in fresh]).numpy() for n in range(4)]
    mixed = [
        replace(sample, moments_CHW=kept[n], pixels_HWC=None) if n in (1, 2) else sample
        for n, sample in enumerate(samples)
    ]
    for some in (mixed, mixed[1:3], mixed[::3]):
        again = trainer.moments(collate(some, range(len(some))))
        rows = [mixed.index(sample) for sample in some]
        for half, whole in zip(again, fresh, strict=True):
            torch.testing.assert_close(half, whole[rows], rtol=0, atol=1e-6)


def test_a_torn_sidecar_tar_is_named_with_what_to_do(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    filled(tars, config, encoders)
    torn = next((tars / "cache").glob("faces-*/jpg-00001.tar"))
    os.truncate(torn, 3000)
    with pytest.raises(ReadingError, match=r"faces-\w+/jpg-00001\.tar: no whole sidecar tar: .*remove it"):
        notes(tars, config, encoders)
    assert [failure.shard for failure in filled(tars, config, encoders).failed] == ["jpg-00001"]
    torn.unlink()
    assert not filled(tars, config, encoders).failed and notes(tars, config, encoders) == ALL_HIT


def forget_in(cache: Path, run: Path, uid: str) -> None:
    """Do what `forget` does to a cache: tombstones first, then every file."""
    write_tombstones(run, Tombstones(uid=frozenset({uid})))
    assert scrub(Copy(CACHE, cache), Traces(frozenset({uid}))).left == {}


def told_of(uid: str, cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*.tar") if uid.encode() in path.read_bytes()]


def test_what_is_forgotten_while_caches_are_filled_does_not_come_back(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, flush, (early, late) = tars / "cache", fill._Waiting.flush, (packed_sample(n)[0][0][:32] for n in (1, 2))
    config = config_for(base, recogniser, cache={"folder": str(cache)})
    gone: list[str] = []

    def takedown_comes(waiting: Any) -> None:
        """Let a takedown come when a shard's arrays are computed, and none is written yet."""
        flush(waiting)
        if gone:
            forget_in(cache, tars.parent, gone.pop())

    monkeypatch.setattr(fill._Waiting, "flush", takedown_comes)
    gone.append(early)
    filled(tars, config, encoders, "jpg-00000.tar")
    assert not told_of(early, cache) and len(told_of(late, cache)) == 3
    write_tombstones(tars.parent, Tombstones())
    gone.append(late)
    filled(tars, config, encoders, "jpg-00000.tar")
    assert not told_of(late, cache) and len(told_of(early, cache)) == 3


def test_a_takedown_waits_for_who_writes_into_a_cache_and_looks_then(tmp_path: Path) -> None:
    (tar,) = write_packed(tmp_path / "run" / "pack", [packed_sample(0)])
    uid, sidecar = packed_sample(0)[0][0][:32], Sidecar(tmp_path / "cache", "latents", {})
    takedown = Thread(target=forget_in, args=(tmp_path / "cache", tmp_path / "run", uid))
    with remembering(sidecar.folder, [str(tar)]) as forgotten:
        takedown.start()
        takedown.join(0.5)
        assert not forgotten
        sidecar.write("jpg-00000", [(Name(uid, 0), "k", np.zeros(2))])
    takedown.join()
    assert not told_of(uid, tmp_path / "cache")
    with remembering(sidecar.folder, [str(tar)]) as forgotten:
        assert forgotten == {uid}


def test_a_gpu_is_cut_alike_for_the_workers_of_a_machine_and_a_certain_one_is_refused() -> None:
    assert gpus_per_worker("cpu", 4, None) == gpus_per_worker("cuda:1", 0, None) == 0.0
    assert gpus_per_worker("cuda", 4, "auto") == 1.0
    with pytest.raises(UsageError, match="with --workers say cuda"):
        gpus_per_worker("cuda:1", 4, None)


def same_tars(one: Path, other: Path, num: int = 6) -> bool:
    names = [sorted(path.relative_to(folder) for path in folder.rglob("*.tar")) for folder in (one, other)]
    assert len(names[0]) == num
    return names[0] == names[1] and all((one / n).read_bytes() == (other / n).read_bytes() for n in names[0])


def test_jobs_that_have_travelled_fill_the_same_caches_as_this_process(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    elsewhere = config_for(base, recogniser, cache={"folder": str(tars / "elsewhere")})
    report = filled(tars, config, encoders)
    jobs = _Jobs(dataset_of(tars, config, encoders).index, elsewhere, tars / "work", encoders, 0, 1)
    done = [fill_shard(pickle.loads(pickle.dumps(job))) for job in jobs]
    assert [one.shard for one in done] == ["jpg-00000", "jpg-00001"] and len(jobs) == len(jobs[:]) == 2
    assert {name: sum(one.run["counts"][name] for one in done) for name in report.counts} == report.counts
    assert same_tars(tars / "cache", tars / "elsewhere")


def typed(folder: Path, config: TrainConfig, tars: Path, dies_at: str | None = None) -> processes.Command:
    """`cache` with two workers, in a process of its own that marks all that it starts."""
    path = folder / "cache.toml"
    path.write_text(tomlkit.dumps(config.model_dump(mode="json", exclude_none=True)))
    words = ["cache", str(path), "--data", f"{tars}/*.tar", "--out", str(folder), "--workers", "2", "--json"]
    return processes.start(words, folder / "talk", dies_at, FACECAPTIONHQ_RUN=str(folder))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_that_are_killed_and_started_again_fill_the_same_caches_as_this_process(
    tars: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    write_packed(tars, [packed_sample(n) for n in range(12, 18)], per_shard=3, series="more")
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    spread = config_for(base, recogniser, cache={"folder": str(tars / "spread")})
    report = filled(tars, config, encoders)
    killed = typed(tars, spread, tars, dies_at=": done")
    assert killed.end() == -signal.SIGKILL, killed.warned
    while left := processes_of(tars):
        time.sleep(0.1)
    assert not left and 3 <= len(list((tars / "spread").rglob("*.tar"))) < 12
    again = typed(tars, spread, tars)
    assert again.end() == 0, again.warned
    counts = json.loads(again.said)
    assert counts["latents_hit"] >= 6 and counts["latents_computed"] > 0 and counts["faults"] == {}
    assert counts["latents_hit"] + counts["latents_computed"] == report.counts["latents_computed"]
    assert sorted(line.split()[1] for line in again.warned.splitlines() if line.endswith(": done")) == [
        "jpg-00000:", "jpg-00001:", "more-00000:", "more-00001:",
    ]  # fmt: skip
    assert same_tars(tars / "cache", tars / "spread", num=12)


@pytest.mark.parametrize(("large", "message"), [(1e6, "set cache.latent_dtype"), (np.inf, "look at the VAE")])
def test_latents_that_are_no_numbers_are_named_and_not_kept(
    tars: Path, base: Path, recogniser: Recogniser, large: float, message: str
) -> None:
    encoders = LatentEncoders.load(tiny.tiny_config(base))
    with torch.no_grad():
        vae: Any = encoders.base.vae
        vae.quant_conv.bias.fill_(large)
    config = config_for(base, recogniser, cache={"folder": str(tars / "cache")})
    failed = filled(tars, config, encoders).failed
    assert len(failed) == 2 and all(f"its latents are not finite in float16; {message}" in one.error for one in failed)
    assert not list((tars / "cache").glob("latents-*/*.tar"))
