import hashlib
import io
import os
import re
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import torch

from filters.loading import torch_state_dict
from filters.pulling import CONVERSIONS, pull, pull_entry
from filters.weights import (
    MissingWeightsError,
    WeightsEntry,
    WeightsError,
    add,
    cache_folder,
    catalogue,
    find_all,
    find_weights,
    verify_all,
)
from tests.filters.marks import with_models
from tests.serving import Web, serving

BYTES = b"weights " * 100
SHA256 = hashlib.sha256(BYTES).hexdigest()
TINY = WeightsEntry("tiny", "tiny.onnx", "for tests", SHA256, len(BYTES), licence="MIT")
CASCADE = next(entry for entry in catalogue() if entry.name == "lbpcascade_animeface")


@pytest.fixture(autouse=True)
def nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and no folder of models."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FACECAPTIONHQ_MODELS", raising=False)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server and the folder that it serves."""
    folder = tmp_path / "www"
    folder.mkdir()
    with serving(Web(partial(QuietHandler, directory=folder))) as web:
        yield web.address, folder


def test_every_entry_has_a_whole_sha256_and_a_way_to_get_it() -> None:
    for entry in catalogue():
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert entry.num_bytes > 0 and entry.licence
        assert entry.addresses or entry.publisher or entry.package
        assert all(address.startswith("https://") for address in entry.addresses)
        assert bool(entry.sources) == (entry.conversion in CONVERSIONS)
        assert all(len(bytes.fromhex(source.sha256)) == 32 for source in entry.sources)
    names = [entry.name for entry in catalogue()]
    assert len(set(names)) == len(names)


def test_missing_weights_say_what_to_type() -> None:
    with pytest.raises(WeightsError, match="facecaptionhq models pull lbpcascade_animeface") as caught:
        find_weights("lbpcascade_animeface")
    assert "FACECAPTIONHQ_MODELS" in str(caught.value)
    assert caught.value.exit_code == 6


def test_all_missing_weights_are_named_at_once_each_with_what_to_type() -> None:
    with pytest.raises(MissingWeightsError) as caught:
        find_all([CASCADE.name, "yolov5n-0.5-face", "yunet_n_640_640"])
    told = re.split(r" \(\d\) ", str(caught.value))
    assert told[0] == "3 files of weights are wanted:" and "\n" not in str(caught.value)
    assert [line.split("`")[1] for line in told[1:]] == [CASCADE.name, "yolov5n-0.5-face", "yunet_n_640_640"]
    assert "facecaptionhq models pull yolov5n-0.5-face --accept" in told[2]


def test_wrong_weights_are_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / CASCADE.file).write_bytes(b"swapped")
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(tmp_path))
    with pytest.raises(WeightsError, match="has sha256") as caught:
        find_all(["yunet_n_640_640", CASCADE.name])
    assert not isinstance(caught.value, MissingWeightsError)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(WeightsError, match=r"yolov5n-face, yolov5n-0\.5-face"):
        find_weights("yolov6")


def test_a_file_with_other_bytes_is_refused_by_name_and_nothing_else_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CASCADE.file).write_bytes(b"swapped")
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        find_weights(CASCADE.name)
    message = str(caught.value)
    assert str(tmp_path / CASCADE.file) in message
    assert CASCADE.sha256 in message
    assert hashlib.sha256(b"swapped").hexdigest() in message


def test_a_file_that_changes_after_it_was_verified_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_bytes(BYTES)
    add(file, "own", SHA256)
    assert find_weights("own").path == str(file)
    file.write_bytes(b"x" * len(BYTES))
    os.utime(file, ns=(1, 1))
    with pytest.raises(WeightsError, match="expected"):
        find_weights("own")


def test_a_path_counts_only_once_its_hash_is_confirmed(tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_bytes(BYTES)
    with pytest.raises(WeightsError, match=f"models add {file} --name own --sha256 {SHA256}"):
        find_weights(str(file))
    add(file, "own", SHA256)
    assert find_weights(str(file)).sha256 == SHA256
    assert find_weights(str(file)).name == "own"


def test_confirming_needs_the_right_hash_and_a_name_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_bytes(BYTES)
    with pytest.raises(WeightsError, match=f"{file}: its sha256 is {SHA256}, and --sha256 says 0000") as refused:
        add(file, "own", "0" * 64)
    assert "elete" not in str(refused.value) and file.read_bytes() == BYTES
    with pytest.raises(WeightsError, match="choose another name"):
        add(file, CASCADE.name, SHA256)
    with pytest.raises(WeightsError, match="no weights are named"):
        find_weights("own")


def test_a_confirmed_file_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "own.onnx"
    file.write_bytes(BYTES)
    add(file, "own", SHA256)
    file.unlink()
    with pytest.raises(WeightsError, match=r"own\.onnx is gone"):
        find_weights("own")


def test_pull_fetches_verifies_and_keeps(publisher: tuple[str, Path]) -> None:
    address, folder = publisher
    (folder / "tiny.onnx").write_bytes(BYTES)
    found = pull_entry(replace(TINY, url=f"{address}/tiny.onnx"), accept=False)
    assert Path(found.path).read_bytes() == BYTES
    assert [path.name for path in cache_folder().iterdir()] == ["tiny.onnx"]


def test_pull_takes_one_member_out_of_an_archive(publisher: tuple[str, Path]) -> None:
    address, folder = publisher
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("inside/tiny.onnx", BYTES)
    (folder / "tiny.zip").write_bytes(archive.getvalue())
    found = pull_entry(replace(TINY, url=f"{address}/tiny.zip", member="inside/tiny.onnx"), accept=False)
    assert found.sha256 == SHA256


@pytest.mark.parametrize("served", [b"other bytes", None])
def test_pull_leaves_nothing_behind_when_it_fails(publisher: tuple[str, Path], served: bytes | None) -> None:
    address, folder = publisher
    if served is not None:
        (folder / "tiny.onnx").write_bytes(served)
    with pytest.raises(WeightsError, match=r"tiny\.onnx"):
        pull_entry(replace(TINY, url=f"{address}/tiny.onnx"), accept=False)
    assert list(cache_folder().iterdir()) == []


def test_pull_says_in_one_line_that_nobody_answers_and_what_a_server_answers(publisher: tuple[str, Path]) -> None:
    address, _ = publisher
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for base, told in ((dead, "nobody answers there: is this machine online"), (address, "the server answers 404")):
        with pytest.raises(WeightsError, match=told) as refused:
            pull_entry(replace(TINY, url=f"{base}/tiny.onnx"), accept=False)
        assert "--mirror" in str(refused.value) and "Pool" not in str(refused.value)


def test_pull_refuses_until_restrictive_terms_are_accepted(publisher: tuple[str, Path]) -> None:
    address, folder = publisher
    (folder / "tiny.onnx").write_bytes(BYTES)
    entry = replace(TINY, url=f"{address}/tiny.onnx", terms="research only")
    with pytest.raises(WeightsError, match=r"research only.*--accept"):
        pull_entry(entry, accept=False)
    assert pull_entry(entry, accept=True).sha256 == SHA256


def test_pull_without_a_pinned_address_prints_publisher_and_licence_and_refuses() -> None:
    with pytest.raises(WeightsError, match=r"no address is pinned.*Apache-2\.0.*ShiqiYu/libfacedetection"):
        pull("yunet_n_640_640", accept=True)


def test_verify_tells_missing_weights_from_wrong_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / CASCADE.file).write_bytes(b"swapped")
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(tmp_path))
    wrong = {status.entry.name: status.is_wrong for status in verify_all() if status.problem}
    assert wrong[CASCADE.name]
    assert not wrong["yunet_n_640_640"]


@with_models
def test_the_models_folder_holds_what_the_catalogue_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", MODELS)
    found = {status.entry.name for status in verify_all() if status.found}
    assert {"yolov5n-face", "yolov5n-0.5-face", "lbpcascade_animeface"} <= found


MODELS = os.environ.get("FACECAPTIONHQ_MODELS", "")


class Payload:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.path),)  # type: ignore[return-value]


def test_a_pickle_with_a_payload_is_refused_and_the_payload_never_runs(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    torch.save({"weight": Payload(str(proof))}, tmp_path / "evil.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch_state_dict(str(tmp_path / "evil.pth"))
    assert not proof.exists()


def test_tensors_lose_the_prefix_of_data_parallel(tmp_path: Path) -> None:
    torch.save({"module.layer.weight": torch.ones(2)}, tmp_path / "wrapped.pth")
    assert list(torch_state_dict(str(tmp_path / "wrapped.pth"))) == ["layer.weight"]
