"""Curating with a device server: the same bytes as without, whoever dies."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.dataset.manifest import read_report
from curation.errors import RecipeError
from curation.recipe.recipe import Recipe, load_recipe
from curation.recipe.settings import CurateSettings
from curation.run.runner import Spread
from curation.sandbox import device
from curation.sandbox.parent import CELL
from filters.loading import DeviceError
from tests.curation.poisoned import poison_recipe, poisoned_shard, use_third_party
from tests.curation.shards import bytes_of, sample_members, write_shard
from tests.filters.marks import with_craft, with_efficientnet, with_gold, with_models, with_ppocr
from tests.third_party.poison import ALLOCATE, SEGFAULT

SERVED = ("curate.num_batch_samples=16", "curate.device_server=true")
FASTER = ("curate.measure=needed", "curate.shadow_fraction=0")
ALONE = Spread(num_workers=0)


@pytest.fixture(autouse=True)
def _no_server_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End what a test has started; servers end by themselves later."""
    monkeypatch.setattr(device, "__file__", f"{device.__file__}.{time.monotonic_ns()}")  # none of another test's
    yield
    CELL.close()
    for pid in servers():
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(pid, signal.SIGKILL)


def servers() -> list[int]:
    """Process ids of the device servers that this session has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(f"{device.private_folder()}/".encode()) for word in words):
            found.append(int(process.name))
    return found


def photos(folder: Path, num_shards: int, num_each: int) -> Path:
    """Shards of labelled photos of every kind."""
    files = sorted(Path(os.environ["FACECAPTIONHQ_GOLD"], "images").glob("*/*"))
    chosen = files[:: len(files) // (num_shards * num_each)]
    for number in range(num_shards):
        own = chosen[number * num_each : (number + 1) * num_each]
        samples = [
            sample_members(f"{i:05d}", file.read_bytes(), file.suffix[1:].replace("jpeg", "jpg"))
            for i, file in enumerate(own)
        ]
        write_shard(folder, f"{number:05d}", samples)
    return folder


def recipe(*changes: str) -> Recipe:
    return load_recipe("facecaptionhq-4m", changes)


def marked(test: Callable[..., None]) -> Callable[..., None]:
    """Skip where the networks or photos of these tests are not here."""
    for mark in (with_models, with_gold, with_ppocr, with_craft, with_efficientnet):
        test = mark(test)
    return test


@pytest.mark.slow
@marked
def test_tars_and_ledgers_are_those_of_a_run_without_a_server_with_one_worker_and_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = photos(tmp_path / "in", 2, 10)
    curate(source, tmp_path / "plain", recipe("curate.num_batch_samples=16"), ALONE)
    curate(source, tmp_path / "one", recipe(*SERVED), ALONE)
    monkeypatch.setattr("curation.commands.curate.stage.MAX_FEW_SHARDS", 0)
    curate(source, tmp_path / "two", recipe(*SERVED), Spread(num_workers=2))
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "plain")
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "plain")
    assert recipe(*SERVED).curate_digest == recipe().curate_digest


@pytest.mark.slow
@marked
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_dies_or_stops_under_pictures_is_replaced_and_no_picture_is_blamed(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filters.device.client.CONNECT_S", 3.0)
    monkeypatch.setattr("curation.sandbox.parent.LOOK_AROUND_S", 1.0)
    source = photos(tmp_path / "in", 1, 12)
    curate(source, tmp_path / "plain", recipe(*FASTER), ALONE)
    struck: list[int] = []
    with striking(number, struck):
        curate(source, tmp_path / "out", recipe(*SERVED, *FASTER, "curate.max_measure_s=5"), ALONE)
    assert struck
    assert read_report(tmp_path / "out" / "00000_stats.json").run["quarantined"] == []
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "plain")


@contextmanager
def striking(number: signal.Signals, struck: list[int]) -> Iterator[None]:
    """Send a signal to the first server once its client has pictures in work."""
    is_over = threading.Event()

    def strike() -> None:
        while not is_over.wait(0.01):
            if CELL._server is not None and CELL._loaded is not None and (found := servers()):
                struck.extend(found[:1])
                os.kill(found[0], number)
                return

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@marked
def test_a_shard_whose_servers_are_lost_again_and_again_fails_by_name_and_rejects_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = photos(tmp_path / "in", 1, 2)
    monkeypatch.setattr("curation.sandbox.parent.running", lambda *_: str(tmp_path / "nobody"))
    manifest = curate(source, tmp_path / "out", recipe(*SERVED), ALONE)
    assert "3 device servers in a row could not be used" in manifest.failed["00000"]
    assert manifest.rejected == {}


@pytest.mark.slow
@marked
def test_waiting_for_a_busy_device_is_not_the_pictures_time(tmp_path: Path) -> None:
    source = photos(tmp_path / "in", 1, 2)
    waited: list[int] = []
    with pausing(4.0, waited):
        manifest = curate(source, tmp_path / "out", recipe(*SERVED, *FASTER, "curate.max_measure_s=2"), ALONE)
    assert waited and "quarantine" not in manifest.rejected


@contextmanager
def pausing(seconds: float, paused: list[int]) -> Iterator[None]:
    """Stop the server for some time once pictures are in work."""
    with striking(signal.SIGSTOP, paused):
        thread = threading.Thread(target=_wake, args=(seconds, paused))
        thread.start()
        yield
        thread.join()


def _wake(seconds: float, paused: list[int]) -> None:
    while not paused:
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(paused[0], signal.SIGCONT)


def test_workers_share_one_server_and_a_dead_one_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = {device.running("cpu") for _ in range(3)}
    (address,), (first,) = addresses, servers()
    with monkeypatch.context() as patch:
        patch.setenv(device.VISIBLE, "1")
        assert device.running("cpu") != address, "who sees other GPUs has another server"
    os.kill(first, signal.SIGKILL)
    assert device.running("cpu") == address
    assert first not in servers()


def test_a_device_that_is_not_here_is_named_before_any_picture_is_measured() -> None:
    with pytest.raises(DeviceError, match=r"cuda:7.*onnxruntime-gpu"):
        device.running("cuda:7")


def test_a_folder_of_sockets_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        device.private_folder().chmod(0o755)
        with pytest.raises(DeviceError, match="yours alone"):
            device.private_folder()


@pytest.mark.slow
def test_poison_in_a_cell_with_a_server_is_found_as_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_third_party(monkeypatch)
    poisoned_shard(tmp_path / "in", "00000", [0, SEGFAULT, ALLOCATE, 0])
    curate(tmp_path / "in", tmp_path / "plain", poison_recipe(tmp_path), ALONE)
    with_server = poison_recipe(tmp_path, ("[curate]", "[curate]\ndevice_server = true"))
    manifest = curate(tmp_path / "in", tmp_path / "out", with_server, ALONE)
    assert manifest.rejected == {"quarantine": {"crashed": 1, "out_of_memory": 1}}
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "plain")


def test_memory_is_bounded_wherever_no_driver_is_loaded() -> None:
    assert CurateSettings().bounds_memory and CurateSettings(device="cuda:1", device_server=True).bounds_memory
    assert not CurateSettings(device="cuda:1").bounds_memory


def test_a_server_without_a_cell_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs isolate = true"):
        recipe("curate.device_server=true", "curate.isolate=false")
