import errno
import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.errors import UsageError
from facemakeup.config import Recogniser
from facemakeup.data import floats
from facemakeup.data.batch import Loaded, collate
from facemakeup.data.caches import plan_of
from facemakeup.data.dataset import Slice, TarDataset, batches, open_dataset
from facemakeup.data.draws import draws_of, generator
from facemakeup.data.members import read_members
from facemakeup.data.order import Place, batch
from facemakeup.data.prepare import view_of
from facemakeup.data.raw_sample import raw_sample
from facemakeup.data.shards import ShardStore
from facemakeup.faces import posemap
from facemakeup.faces.align import CLIP_MEAN, CLIP_STD
from facemakeup.faults import REASONS, DataError, FaultLimit, ReadingError, count
from facemakeup.model.diffusion import NoiseSchedule
from facemakeup.model.encoders import Encoders
from facemakeup.train_config import TrainConfig
from tests.facemakeup import tiny
from tests.facemakeup.tars import Members, packed_sample, write_packed

NUM_SAMPLES = 44


def config_for(base: Path, recogniser: Recogniser, **changes: dict[str, Any]) -> TrainConfig:
    tables: dict[str, Any] = {
        "name": "data",
        "model": tiny.tiny_config(base, recogniser=recogniser),
        "data": {"global_batch": 8, "micro_batch": 2, "block": 5, "window": 3, "num_workers": 0},
        "crop": {"size": 64, "flip_probability": 0.5},
        "faces": {"accept_noncommercial": True},
        "validation": {"num_samples": 4},
    }
    for name, change in changes.items():
        tables[name] = {**tables.get(name, {}), **change}
    return TrainConfig.model_validate(tables)


def opened(folder: Path, config: TrainConfig, encoders: Encoders) -> TarDataset:
    return open_dataset([f"{folder}/*.tar"], config, plan_of(config, encoders), folder / "work")[0]


@pytest.fixture(scope="module")
def encoders(base: Path) -> Encoders:
    return Encoders.load(tiny.tiny_config(base))


@pytest.fixture
def dataset(tmp_path: Path, base: Path, recogniser: Recogniser, encoders: Encoders) -> TarDataset:
    write_packed(tmp_path, [packed_sample(n) for n in range(NUM_SAMPLES - 8)])
    write_packed(tmp_path, [packed_sample(n, "png") for n in range(100, 104)], series="png")
    write_packed(tmp_path, [packed_sample(n, "webp") for n in range(200, 204)], series="webp")
    return opened(tmp_path, config_for(base, recogniser), encoders)


def taken(
    dataset: TarDataset, rank: int, world: int, num_batches: int, first: int = 0, workers: int = 0
) -> list[Loaded]:
    mine = dataset.for_rank(rank, world)
    stream: Iterator[Loaded] = batches(mine, first, workers)
    try:
        return list(islice(stream, num_batches * mine.accumulation))
    finally:
        stream.close()  # type: ignore[attr-defined]


def by_position(loaded: list[Loaded]) -> dict[int, tuple[Any, ...]]:
    """Everything about each sample, by its position in the stream."""
    rows = {}
    for one in loaded:
        batch = one.batch
        for i, position in enumerate(batch.positions):
            tensors = (batch.pixels, batch.clip_pixels, batch.identity_BD, batch.pose)
            rows[position] = (batch.uids[i], batch.captions[i], *(t[i].numpy().tobytes() for t in tensors))
    return rows


def test_a_batch_holds_what_the_model_was_promised(dataset: TarDataset) -> None:
    batch = dataset[0].batch
    assert batch.pixels.shape == (2, 3, 64, 64) and batch.pixels.abs().max() <= 1
    assert batch.clip_pixels.shape == (2, 3, tiny.CLIP_SIDE, tiny.CLIP_SIDE)
    assert torch.allclose(batch.identity_BD.norm(dim=1), torch.ones(2))
    assert batch.pose.min() == 0 and 0.99 < batch.pose.max() <= 1
    assert {getattr(batch, name).dtype for name in ("pixels_KHWC", "faces_BSSC", "pose_colours_N3")} == {torch.uint8}
    assert all(value.dtype == torch.float32 for value in (batch.pixels, batch.clip_pixels, batch.pose))
    assert len(batch.captions) == len(batch.uids) == len(batch.positions) == len(batch.has_moments_B) == 2


def test_bytes_become_on_a_device_what_numpy_makes_of_them_bit_for_bit(dataset: TarDataset) -> None:
    every = torch.arange(256, dtype=torch.uint8).repeat_interleave(3).reshape(1, 16, 16, 3)
    plain = every.numpy().transpose(0, 3, 1, 2).astype(np.float32)
    assert np.array_equal(floats.signed(every).numpy(), plain / np.float32(127.5) - np.float32(1))
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    assert np.array_equal(floats.for_clip(every).numpy(), (plain / np.float32(255) - mean) / std)
    batch = dataset[0].batch
    for i, position in enumerate(batch.positions):
        shard, offset, size = dataset.index.where(dataset.order.seat(position // 8, position % 8).row)
        raw = raw_sample(read_members(ShardStore(Path(), 0), shard, offset, size, batch.uids[i]), batch.uids[i])
        flipped = bool(generator(0, position, "flip").random() < 0.5)
        drawn = posemap.draw(view_of(raw, dataset.config.crop, flipped).landmarks(raw), (64, 64))
        assert np.array_equal(batch.pose[i].numpy(), drawn.transpose(2, 0, 1) / np.float32(255))


def test_all_formats_are_read_together(dataset: TarDataset) -> None:
    uids = [uid for one in taken(dataset, 0, 1, 5) for uid in one.batch.uids]
    assert len(uids) == len(set(uids)) == NUM_SAMPLES - 4
    expected = {packed_sample(n)[0][0].partition(".")[0] for n in (100, 200, 203)}
    assert expected <= set(uids)


@pytest.mark.slow
def test_the_global_batches_are_the_same_with_one_or_two_ranks_and_zero_or_two_workers(dataset: TarDataset) -> None:
    alone = taken(dataset, 0, 1, 3)
    expected = by_position(alone)
    assert sorted(expected) == list(range(24))
    pair = [taken(dataset, rank, 2, 3) for rank in range(2)]
    assert {**by_position(pair[0]), **by_position(pair[1])} == expected
    assert not by_position(pair[0]).keys() & by_position(pair[1]).keys()
    spread = taken(dataset, 0, 1, 3, workers=2)
    assert [one.batch.positions for one in spread] == [one.batch.positions for one in alone]
    assert by_position(spread) == expected


def test_whatever_comes_up_while_a_sample_is_read_names_tar_and_key(tmp_path: Path, dataset: TarDataset) -> None:
    for tar in tmp_path.glob("*.tar"):
        tar.unlink()
    with pytest.raises(ReadingError, match=r"/(jpg|png|webp)-0000\d\.tar: [0-9a-f]{32}: FileNotFoundError"):
        next(batches(dataset, 0, 0))


class _Failing(TarDataset):
    """Every item fails as a disk does, or takes its process down as the kernel does for want of memory."""

    accumulation = 1

    def __init__(self, kills: bool) -> None:
        """Say how."""
        self._kills = kills

    def __getitem__(self, item: int) -> Any:
        """Fail."""
        if self._kills:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "message"),
    [(False, r"Errno 5"), pytest.param(True, r"ended by itself \(exit code -9\)", marks=pytest.mark.campaign)],
)
def test_a_reading_process_that_fails_ends_the_stream_and_no_process_is_left(kills: bool, message: str) -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(ReadingError, match=message):
        next(batches(_Failing(kills), 0, num_workers=1))
    assert set(multiprocessing.active_children()) <= before


class _Unfit(list[Any]):
    """What the process that receives it cannot take, as one whose memory cannot be pinned."""

    def __iter__(self) -> Iterator[Any]:
        """Fail."""
        raise RuntimeError("CUDA error: out of memory")


def test_an_error_is_laid_to_a_reading_process_only_where_one_is_gone() -> None:
    class Holding(_Wide):
        def __getitem__(self, item: int) -> Any:
            return _Unfit([item])

    with pytest.raises(RuntimeError, match=r"^CUDA error"):
        next(batches(Holding(), 0, num_workers=0))


class _Wide(TarDataset):
    """Micro batches so large that a worker is mostly found sending when it is stopped."""

    accumulation = 1

    def __init__(self) -> None:
        """Hold nothing."""

    def __getitem__(self, item: int) -> Any:
        """Return 16 MiB."""
        return [torch.zeros(1 << 20) for _ in range(4)]


@pytest.mark.slow
def test_workers_stopped_while_they_send_end_without_an_abort() -> None:
    before = set(multiprocessing.active_children())
    stream = batches(_Wide(), 0, num_workers=2)
    list(islice(stream, 2))  # one of each worker: both have settled
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    stream.close()  # type: ignore[attr-defined]
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_any_batch_can_be_the_first(dataset: TarDataset) -> None:
    whole = by_position(taken(dataset, 0, 1, 9))
    rest = by_position(taken(dataset, 0, 1, 2, first=7))
    assert rest == {position: whole[position] for position in range(56, 72)}


def test_a_mirrored_sample_has_mirrored_pixels_and_landmarks_and_the_same_identity(
    tmp_path: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    write_packed(tmp_path, [packed_sample(n) for n in range(6)])
    never, always = (
        opened(tmp_path, config_for(base, recogniser, crop={"flip_probability": p}), encoders).sample(Place(0, 0, 4))
        for p in (0.0, 1.0)
    )
    assert always.pixels_HWC is not None and never.pixels_HWC is not None
    assert np.array_equal(always.pixels_HWC, never.pixels_HWC[:, ::-1])
    assert np.array_equal(always.face_SSC, never.face_SSC[:, ::-1])
    assert np.array_equal(always.identity_D, never.identity_D)
    red, green = (np.array(colour) / 255 for colour in posemap.COLOURS[:2])

    def middle_of(pose: np.ndarray, colour: np.ndarray) -> float:
        return float(np.nonzero((np.abs(pose - colour[:, None, None]) < 0.02).all(axis=0))[1].mean())

    as_is, mirrored = (collate([sample], [0]).pose[0].numpy() for sample in (never, always))
    assert middle_of(as_is, red) < middle_of(as_is, green)
    assert middle_of(mirrored, red) < middle_of(mirrored, green)
    assert middle_of(mirrored, red) == pytest.approx(64 - middle_of(as_is, green), abs=2)


def _without(members: Members, suffix: str) -> Members:
    return [(name, content) for name, content in members if not name.endswith(suffix)]


def _with(members: Members, suffix: str, content: bytes) -> Members:
    return [(name, content if name.endswith(suffix) else old) for name, old in members]


def _broken_samples() -> dict[str, Members]:
    """One sample for each reason that shows when a sample is read."""
    torn_jpeg = packed_sample(50, sha256=None)
    return {
        "broken_metadata": _with(packed_sample(51), ".json", b"[1, 2"),
        "wrong_bytes": packed_sample(52, sha256="0" * 64),
        "unreadable": _with(torn_jpeg, ".jpg", torn_jpeg[0][1][:-300]),
        "wrong_size": packed_sample(53) and _with(packed_sample(53), ".json", _resized(packed_sample(53))),
        "no_face": packed_sample(54, face_landmarks=None),
        "degenerate_face": packed_sample(55, face_landmarks=[9.0] * 10),
        "no_caption": _without(packed_sample(56, caption=None), ".txt"),
    }


def _resized(members: Members) -> bytes:
    return json.dumps({**json.loads(members[1][1]), "width": 90}).encode()


@pytest.mark.slow
def test_every_unusable_sample_is_counted_once_an_epoch_with_its_reason_and_replaced_by_a_usable_one(
    tmp_path: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    broken = _broken_samples()
    write_packed(tmp_path, [*(packed_sample(n) for n in range(29)), *broken.values()], per_shard=9)
    whole = config_for(base, recogniser, validation={"choice": "first"})  # no broken one is held out
    dataset = opened(tmp_path, whole, encoders)
    for epoch in range(2):
        loaded = taken(dataset, 0, 1, 4, first=4 * epoch)
        seats = Counter(fault.key for one in loaded for fault in one.faults)
        named = {fault.reason: fault.key for one in loaded for fault in one.faults}
        assert named == {reason: members[0][0].partition(".")[0] for reason, members in broken.items()}
        assert all(times >= 1 for times in seats.values()) and len(seats) == len(broken)
        assert sorted(position for one in loaded for position in one.batch.positions) == list(
            range(32 * epoch, 32 * epoch + 32)
        )
        assert all(np.allclose(one.batch.identity_BD.norm(dim=1), 1) for one in loaded)
    assert set(broken) <= set(REASONS)
    pair = [one for rank in range(2) for one in taken(dataset, rank, 2, 8)]
    alone = taken(dataset, 0, 1, 8)
    assert sorted(map(str, (f for one in pair for f in one.faults))) == sorted(
        map(str, (f for one in alone for f in one.faults))
    )


def test_too_many_faults_stop_a_run_and_the_error_names_counts_and_samples(tmp_path: Path, dataset: TarDataset) -> None:
    index_faults = [fault for n in range(8) for fault in [_fault(n)]]
    limit = FaultLimit(max_fraction=0.1, min_count=3)
    limit.require(count(index_faults[:3]), 3, index_faults[:3])
    limit.require(count(index_faults), 80, index_faults)
    with pytest.raises(DataError, match=r"8 of 79 samples .*no_face 8.*max_fault_fraction[\s\S]*a\.tar: k0: no_face"):
        limit.require(count(index_faults), 79, index_faults)


def _fault(number: int) -> Any:
    from facemakeup.faults import SampleFault

    return SampleFault("no_face", "a.tar", f"k{number}")


def test_a_dataset_of_nothing_but_broken_samples_ends_in_an_error(
    tmp_path: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    write_packed(tmp_path, [packed_sample(n, face_landmarks=None) for n in range(6)])
    with pytest.raises(DataError, match="face_landmarks is missing"):
        _ = opened(tmp_path, config_for(base, recogniser), encoders)[0]


def test_the_whole_picture_comes_in_buckets_that_never_mix_within_a_batch_and_small_ones_are_told_of(
    tmp_path: Path, base: Path, recogniser: Recogniser, encoders: Encoders, caplog: pytest.LogCaptureFixture
) -> None:
    shapes = ((128, 80), (80, 128), (80, 80))
    samples = [packed_sample(n, width=shapes[n % 3][0], height=shapes[n % 3][1]) for n in range(34)]
    write_packed(tmp_path, samples)
    config = config_for(base, recogniser, crop={"mode": "full", "bucket_step": 16, "max_aspect": 2.5})
    dataset = opened(tmp_path, config, encoders)
    loaded = taken(dataset, 0, 1, 6)
    seen = {tuple(one.batch.pixels.shape[2:]) for one in loaded}
    assert len(seen) == 3 and all(h % 16 == w % 16 == 0 for h, w in seen)
    assert all(one.batch.pose.shape == one.batch.pixels.shape for one in loaded)
    for number in range(6):
        assert len({one.batch.size for one in loaded[4 * number : 4 * number + 4]}) == 1
    assert len({uid for one in loaded for uid in one.batch.uids}) == 30
    assert "fill a batch" not in caplog.text
    opened(tmp_path, config.model_copy(update={"data": config.data.model_copy(update={"global_batch": 12})}), encoders)
    assert "pictures fill a batch of 12, so each is met" in caplog.text


def test_validation_samples_are_never_trained_on(
    tmp_path: Path, base: Path, recogniser: Recogniser, encoders: Encoders
) -> None:
    write_packed(tmp_path, [packed_sample(n) for n in range(12)])
    config = config_for(base, recogniser)
    train, held_out = open_dataset([f"{tmp_path}/*.tar"], config, plan_of(config, encoders), tmp_path / "work")
    apart = {uid for place in (batch(held_out.order, n) for n in range(2)) for uid in held_out.load(place).batch.uids}
    trained = {uid for one in taken(train, 0, 1, 6) for uid in one.batch.uids}
    assert len(apart) == 4 and len(trained) == 8 and not apart & trained
    elsewhere = config_for(base, recogniser, validation={"data": [f"{tmp_path}/other/*.tar"]})
    write_packed(tmp_path / "other", [packed_sample(n) for n in range(20, 26)])
    train, held_out = open_dataset([f"{tmp_path}/*.tar"], elsewhere, plan_of(config, encoders), tmp_path / "work")
    assert {uid for one in taken(train, 0, 1, 2) for uid in one.batch.uids} == trained | apart
    assert not {uid for n in range(2) for uid in held_out.load(batch(held_out.order, n)).batch.uids} & (trained | apart)
    write_packed(tmp_path / "other", [packed_sample(n) for n in range(11, 17)])
    with pytest.raises(UsageError, match=r"and 0 others are in validation\.data and in --data, too"):
        opened(tmp_path, elsewhere, encoders)
    with pytest.raises(UsageError, match="leaves none of 12 samples"):
        opened(tmp_path, config_for(base, recogniser, validation={"num_samples": 12}), encoders)


def test_a_batch_that_cannot_be_cut_for_the_ranks_is_refused() -> None:
    with pytest.raises(UsageError, match="micro_batch 2 x 3 ranks"):
        Slice(0, 3, 2).accumulation(8)


def test_draws_depend_on_seed_position_and_purpose_alone() -> None:
    draw = partial(NoiseSchedule(torch.ones(1000), "noise").draw, height=8, width=8)
    one = draws_of(7, (3, 9, 2**40), (4, 8, 8), draw)
    two = draws_of(7, (9,), (4, 8, 8), draw)
    assert torch.equal(one.noise_BCHW[1:2], two.noise_BCHW) and torch.equal(one.drop_B3[1:2], two.drop_B3)
    assert not torch.equal(one.noise_BCHW[0], one.posterior_BCHW[0])
    other = draws_of(8, (9,), (4, 8, 8), draw)
    assert not torch.equal(other.noise_BCHW, two.noise_BCHW)
    many = draws_of(0, range(4000), (1, 1, 2), partial(NoiseSchedule(torch.ones(10), "noise").draw, height=1, width=2))
    assert abs(many.noise_BCHW.mean()) < 0.05 and abs(many.noise_BCHW.std() - 1) < 0.03
    counts = torch.bincount(many.timesteps_B, minlength=10)
    assert (((counts - 400) ** 2) / 400).sum() < 27.9  # 99.9 % of chi-square with 9 degrees of freedom


def test_collating_keeps_moments_with_the_samples_that_have_them(dataset: TarDataset) -> None:
    from dataclasses import replace

    sample = dataset.sample(Place(0, 0, 5))
    known = replace(sample, moments_CHW=np.ones((8, 8, 8), np.float16), pixels_HWC=None)
    batch = collate([sample, known], [0, 1])
    assert batch.has_moments_B.tolist() == [False, True] and batch.moments_MCHW.shape == (1, 8, 8, 8)
    assert len(batch.pixels_KHWC) == 1 and len(collate([sample], [0]).moments_MCHW) == 0
