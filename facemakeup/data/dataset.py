"""Batches from tars: the same global batches with any number of ranks and workers, unusable samples counted."""

import atexit
import hashlib
import logging
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.errors import UsageError
from facemakeup.data.batch import Loaded, collate
from facemakeup.data.draws import generator
from facemakeup.data.held_out import Among, Rows, Without, held_out_rows, others
from facemakeup.data.index import TarIndex, build_index
from facemakeup.data.members import read_members
from facemakeup.data.order import BucketOrder, Order, Place, StreamOrder
from facemakeup.data.people import PeopleTable, read_people
from facemakeup.data.prepare import Appearance, Plan, Prepared, Preparer, sizes_of
from facemakeup.data.raw_sample import Opened, raw_sample
from facemakeup.data.references import References, references_of
from facemakeup.data.shards import Shard, ShardStore, find_shards
from facemakeup.faces.crop import nearest_bucket
from facemakeup.faults import REASONS, DataError, ReadingError, SampleFault, SampleFaultError, told
from facemakeup.train_config import GIB, TrainConfig
from filters.base import FaceCaptionError
from filters.loading import single_thread

MAX_SUBSTITUTES = 50
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slice:
    """Which part of every global batch one process takes: micro batch `m` of rank `r` comes at `m * world + r`."""

    rank: int
    world: int
    micro_batch: int

    def accumulation(self, global_batch: int) -> int:
        """Return the number of micro batches that one rank takes per optimiser step.

        Raises:
            UsageError: the global batch cannot be cut so.
        """
        steps, rest = divmod(global_batch, self.world * self.micro_batch)
        if rest:
            raise UsageError(
                f"data.global_batch {global_batch} is no multiple of "
                f"micro_batch {self.micro_batch} x {self.world} ranks"
            )
        return steps

    def seats(self, micro: int) -> range:
        """Return the seats of this rank's micro batch number `micro` in any global batch."""
        first = (micro * self.world + self.rank) * self.micro_batch
        return range(first, first + self.micro_batch)


class TarDataset(torch.utils.data.Dataset[Loaded]):
    """Item `n` is micro batch `n % accumulation` of global batch `n // accumulation`, for one rank."""

    def __init__(self, index: TarIndex, store: ShardStore, order: Order, config: TrainConfig, plan: Plan) -> None:
        """Keep what samples are made from; `for_rank` says whose part is read."""
        self.index, self.order, self.config = index, order, config
        self._store = store
        self._plan, self._preparer = plan, Preparer(plan)
        self._slice = Slice(0, 1, config.data.micro_batch)
        self._references: References | None = None

    def for_rank(self, rank: int, world: int) -> "TarDataset":
        """Return the dataset of one rank."""
        return self._with(_slice=Slice(rank, world, self.config.data.micro_batch))

    def with_pixels(self, geometry: bool = False) -> "TarDataset":
        """Return the dataset whose samples all have their pixels, whether their latents are cached or not.

        `geometry` says that they tell where their faces are, too, whether a loss asks or not.
        """
        plan = replace(self._plan, latents=None, with_geometry=geometry or self._plan.with_geometry)
        return self._with(_preparer=Preparer(plan))

    def referring(self, references: References | None) -> "TarDataset":
        """Return the dataset in which other photos, or other views, stand for the samples."""
        return self._with(_references=references)

    def _with(self, **changes: object) -> "TarDataset":
        other = TarDataset.__new__(TarDataset)
        other.__dict__ |= {**self.__dict__, **changes}
        return other

    @property
    def digest(self) -> str:
        """Hex digest of which samples there are, in which order: a place in the stream means something for it alone."""
        rows = self.index.rows
        keys = hashlib.sha256("\n".join(rows.key.to_pylist()).encode("utf-8", "surrogatepass"))
        keys.update(rows.num_bytes.tobytes())
        if self._references is not None:
            keys.update(self._references.digest.encode())
        return keys.hexdigest()

    @property
    def accumulation(self) -> int:
        """Micro batches of one optimiser step."""
        return self._slice.accumulation(self.config.data.global_batch)

    def __getitem__(self, item: int) -> Loaded:
        """Return one micro batch."""
        number, micro = divmod(item, self.accumulation)
        return self.load([self.order.seat(number, seat) for seat in self._slice.seats(micro)])

    def load(self, places: Sequence[Place]) -> Loaded:
        """Return the samples at these places, substitutes in the seats of those that cannot be used.

        Raises:
            DataError: a seat finds no usable sample.
            ReadingError: something else came up; names shard and sample.
        """
        faults: list[SampleFault] = []
        samples = [self._seated(place, faults) for place in places]
        notes = Counter(note for sample in samples for note in sample.notes)
        return Loaded(collate(samples, [place.position for place in places]), tuple(faults), dict(notes))

    def _seated(self, place: Place, faults: list[SampleFault]) -> Prepared:
        candidate = place
        for attempt in range(MAX_SUBSTITUTES):
            try:
                with self._naming(candidate.row):
                    return self.sample(candidate, faults)
            except SampleFaultError as error:
                faults.append(error.at(*self._name(candidate.row)))
                candidate = self.order.substitute(place, attempt)
        named = "; ".join(str(fault) for fault in faults[-3:])
        raise DataError(
            f"{MAX_SUBSTITUTES} samples in a row cannot be used, the last: {named}. "
            f"{faults[-1].reason} means: {REASONS[faults[-1].reason]}"
        )

    def sample(self, place: Place, faults: list[SampleFault] | None = None) -> Prepared:
        """Return one sample; photos that could not stand for it are put on the list.

        Raises:
            SampleFaultError: it cannot be used.
        """
        opened, shard = self._opened(place.row)
        chance = generator(self.config.seed, place.position, "flip").random()
        flipped = bool(chance < self.config.crop.flip_probability)
        look = self._look(place, opened, shard, flipped, [] if faults is None else faults)
        return self._preparer.prepare(opened, shard.name, flipped, look)

    def _name(self, row: int) -> tuple[str, str]:
        """Return what a row is called: the address of its tar, and its key."""
        return self.index.where(row)[0].address, self.index.key(row)

    @contextmanager
    def _naming(self, row: int, how: str = "") -> Iterator[None]:
        """Name whatever comes up while a row is read, but the row's own fault, with its tar and key, once."""
        try:
            yield
        except (SampleFaultError, ReadingError):
            raise
        except Exception as error:
            named = f"{': '.join(self._name(row))}: {how}{told(error)}"
            raise ReadingError(named, getattr(error, "exit_code", 1)) from error

    def _opened(self, row: int) -> tuple[Opened, Shard]:
        key = self.index.key(row)
        shard, offset, num_bytes = self.index.where(row)
        raw = raw_sample(read_members(self._store, shard, offset, num_bytes, key), key)
        return Opened(raw, self.config.data.decode), shard

    def _look(
        self, place: Place, own: Opened, shard: Shard, flipped: bool, faults: list[SampleFault]
    ) -> Appearance | None:
        """Return what stands for a sample; None where all stand for themselves."""
        if self._references is None:
            return None
        for row in self._references.others(place):
            try:
                with self._naming(row, "as the reference of another sample: "):
                    opened, other = self._opened(row)
                    return self._references.paired(self._preparer.look(opened, other.name), place)
            except SampleFaultError as error:
                faults.append(error.at(*self._name(row)))
        return self._references.own(self._preparer.look(own, shard.name), place, flipped)


def open_dataset(patterns: Sequence[str], config: TrainConfig, plan: Plan, work: Path) -> tuple[TarDataset, TarDataset]:
    """Return the training set and the validation set of the tars that the patterns name; caches lie in `work`.

    Where the configuration names no tars for validation, `validation.num_samples` rows of the index are set aside, and
    training never sees them, as pictures or as references. With a table of people it sees no other photo of anybody who
    is in the validation set either, wherever that comes from.

    Raises:
        UsageError: a pattern names nothing, nothing is left to train on, a sample would be in both sets, or
            `reference.people` names no pair of photos.
        DataError: too many samples are known to be unusable.
    """
    import pyarrow as pa

    store = ShardStore(work / "shards", int(config.data.cache_gib * GIB))
    index = build_index(find_shards(patterns), store, work / "scans")
    num, choice = config.validation.num_samples, config.validation.choice
    if config.validation.data:
        other = build_index(find_shards(config.validation.data), store, work / "scans")
        _require_apart(index, other, num)
        looked_at, left_out = held_out_rows(len(other), num, choice), held_out_rows(0, 0, choice)
    elif num < len(index):
        other, looked_at = index, held_out_rows(len(index), num, choice)
        left_out = looked_at
    else:
        raise UsageError(f"validation.num_samples {num} leaves none of {len(index)} samples to train on")
    people = read_people(config.reference.people) if config.reference.people is not None else None
    if people is not None and config.validation.apart == "people":
        left_out = _with_their_people(people, index, left_out, other.rows.key.take(pa.array(looked_at)))
    held_out = TarDataset(other, store, _held_out_order(looked_at, config), config, plan)
    dataset = TarDataset(index, store, _order(index, left_out, config), config, plan)
    return dataset.referring(references_of(config, people, index.rows.key, left_out)), held_out


def _with_their_people(people: PeopleTable, index: TarIndex, left_out: Rows, looked_at: Any) -> Rows:
    """Return the rows of an index that are left out, and those of everybody whose photos, by their keys, are looked at.

    Raises:
        UsageError: nothing is left to train on.
    """
    persons_N, shown_K = people.persons(index.rows.key), people.persons(looked_at)
    whole = np.union1d(left_out, np.flatnonzero(np.isin(persons_N, shown_K[shown_K >= 0]))).astype(np.int64)
    if len(whole) == len(index):
        raise UsageError(f"{people.address}: everybody is in the validation set, too: nothing is left to train on")
    if len(whole) > len(left_out):
        num = len(whole) - len(left_out)
        log.warning("%d photos are not trained on: the validation set has others of these people", num)
    return whole


def _require_apart(index: TarIndex, held_out: TarIndex, num_samples: int) -> None:
    """Refuse a validation set that is too small, or that training would see."""
    import pyarrow.compute as pc

    if num_samples > len(held_out):
        raise UsageError(f"validation.data holds {len(held_out)} samples; num_samples asks for {num_samples}")
    common = held_out.rows.key.filter(pc.is_in(held_out.rows.key, value_set=index.rows.key))
    if len(common):
        raise UsageError(f"{common[0].as_py()} and {len(common) - 1} others are in validation.data and in --data, too")


def _held_out_order(rows: Rows, config: TrainConfig) -> Order:
    batch_size = min(len(rows), config.data.micro_batch) if config.crop.mode == "face" else 1
    return Among(StreamOrder(len(rows), batch_size, len(rows), 1, seed=0), rows)


def batches(dataset: TarDataset, first_batch: int, num_workers: int) -> Iterator[Loaded]:
    """Yield the micro batches of one rank without end, beginning with global batch `first_batch`.

    Reading processes are gone when it ends, however it ends: one that waits for a tar must not hold up the exit.

    Raises:
        FaceCaptionError: what came up while a sample was read; `ReadingError` names shard and sample.
        ReadingError: a reading process is gone.
    """
    before = set(multiprocessing.active_children())
    loader = iter(
        torch.utils.data.DataLoader(
            _Told(dataset),
            batch_size=None,
            sampler=_From(first_batch * dataset.accumulation),
            num_workers=num_workers,
            multiprocessing_context="spawn" if num_workers else None,
            worker_init_fn=_settle if num_workers else None,
            pin_memory=torch.cuda.is_available(),
        )
    )
    workers = set(multiprocessing.active_children()) - before
    try:
        while True:
            yield _received(loader, workers)
    finally:
        del loader  # where nothing holds it any more, it stops its workers by itself
        for worker in workers:
            worker.kill()
            worker.join()


def _received(loader: Iterator[Loaded | Exception], workers: Collection[BaseProcess]) -> Loaded:
    try:
        loaded = next(loader)
    except Exception as error:  # a DataLoader says in several ways that a process is gone, and other things in the same
        gone = sorted(str(worker.exitcode) for worker in workers if not worker.is_alive())
        if not gone:
            raise
        raise ReadingError(
            f"a reading process ended by itself (exit code {', '.join(gone)}), for want of memory perhaps: "
            f"{told(error)}"
        ) from error
    if isinstance(loaded, Exception):
        raise loaded
    return loaded


class _Told(torch.utils.data.Dataset["Loaded | Exception"]):
    """The items of a data set, or what came up while they were read: an exception of any kind travels as a value."""

    def __init__(self, dataset: torch.utils.data.Dataset[Loaded]) -> None:
        self._dataset = dataset

    def __getitem__(self, item: int) -> Loaded | Exception:
        try:
            return self._dataset[item]
        except FaceCaptionError as error:
            return ReadingError(str(error), error.exit_code)
        except Exception as error:  # noqa: BLE001  raised where it is received
            return ReadingError(f"micro batch {item}: {told(error)}")


class _From(torch.utils.data.Sampler[int]):
    """All numbers from one on."""

    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        number = self._first
        while True:
            yield number
            number += 1


def _order(index: TarIndex, held_out: Rows, config: TrainConfig) -> Order:
    """Return the order of training: every row that is not held out."""
    data = config.data
    if config.crop.mode == "face":
        num_rows = len(index) - len(held_out)
        return Without(StreamOrder(num_rows, data.global_batch, data.block, data.window, config.seed), held_out)
    rows = others(len(index), held_out)
    sizes = sizes_of(config.crop)
    shapes = np.stack([index.rows.width, index.rows.height], axis=1)[rows]
    unknown = np.flatnonzero(shapes.min(axis=1) == 0)
    if len(unknown):
        row = int(rows[unknown[0]])
        address = index.where(row)[0].address
        raise DataError(f"{address}: {index.key(row)}: crop.mode 'full' needs width and height in .json")
    kinds, kind_of_row = np.unique(shapes, axis=0, return_inverse=True)
    nearest = np.array([nearest_bucket(int(width), int(height), sizes) for width, height in kinds])
    bucket_of_row = nearest[kind_of_row.reshape(-1)]
    buckets = tuple(rows[bucket_of_row == bucket] for bucket in np.unique(nearest))
    for size, bucket in zip((sizes[number] for number in np.unique(nearest)), buckets, strict=True):
        if len(bucket) < data.global_batch:
            told = (size.width, size.height, len(bucket), data.global_batch, data.global_batch / len(bucket))
            log.warning("bucket %dx%d: %d pictures fill a batch of %d, so each is met %.1f times an epoch", *told)
    return BucketOrder(buckets, data.global_batch, data.block, data.window, config.seed)


def _settle(_: int) -> None:
    """One thread per worker; an interrupt is the main process's business, which lets a step end and then stops them.

    A worker leaves without taking Python down: the daemon thread that still sends batches would be unwound through
    C++ frames of torch, which aborts the process, and torch raises that abort in the trainer. What goes wrong with a
    batch is sent, so an exit code tells nothing more.
    """
    single_thread()
    torch.set_num_threads(1)
    atexit.register(os._exit, 0)
    for number in (signal.SIGINT, signal.SIGTERM):  # schedulers send it to every process of a job
        signal.signal(number, signal.SIG_IGN)
