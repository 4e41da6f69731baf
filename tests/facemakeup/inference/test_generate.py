import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cli import app
from curation.errors import SafetyError, UsageError
from facemakeup.config import ModelConfig, Recogniser
from facemakeup.faces.condition import prepare_face
from facemakeup.faces.recognisers import MOBILEFACENET, find_recogniser, load_recogniser
from facemakeup.inference.export import export
from facemakeup.inference.generate import read_picture
from facemakeup.inference.screening import require_decent
from filters.loading import DeviceError
from tests.facemakeup import tiny
from tests.facemakeup.inference.test_pipeline import face
from tests.facemakeup.tiny import tiny_model, trained
from tests.filters.marks import astronaut, with_centerface, with_models


@pytest.fixture(scope="module")
def adapter(model_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(model_config, tmp_path_factory.mktemp("adapters") / "adapter")


def exported(config: ModelConfig, target: Path, mode: str = "face") -> Path:
    export(trained(tiny_model(config)), target, {"crop_mode": mode, "crop_factor": 1.5})
    return target


def run(adapter: Path, out: Path, *arguments: object) -> Result:
    words: Sequence[object] = (
        "generate",
        adapter,
        "--out",
        out,
        "--height",
        64,
        "--width",
        64,
        "--steps",
        2,
        *arguments,
    )
    return CliRunner().invoke(app, [str(word) for word in words])


def pixels(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.int32]]":
    return np.asarray(Image.open(path), dtype=np.int32)


@pytest.mark.slow
def test_one_picture_is_drawn_per_prompt_and_the_record_says_how(adapter: Path, tmp_path: Path) -> None:
    face(1).save(tmp_path / "one.npz")
    face(2).save(tmp_path / "two.npz")
    faces = ["--face", tmp_path / "one.npz", "--face", tmp_path / "two.npz", "--mix", 0.3, "--mix", 0.7]
    prompts = ["--prompt", "a red hat", "--prompt", "a park", "--consent", "the models signed a release"]
    result = run(adapter, tmp_path / "a", *faces, *prompts, "--pose", tmp_path / "one.npz", "--seed", 7)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "a" / name) for name in ("000.png", "001.png")]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["000.png", "001.png", "generate.json"]
    record = json.loads((tmp_path / "a" / "generate.json").read_text())
    assert record["request"]["mix"] == [0.3, 0.7] and record["request"]["seed"] == 7
    assert record["request"]["consent"] == "the models signed a release"
    again = run(adapter, tmp_path / "b", *faces, *prompts, "--pose", tmp_path / "one.npz", "--seed", 7)
    assert again.exit_code == 0
    for name, sha256 in record["files"].items():
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() and len(sha256) == 64
    assert not np.array_equal(pixels(tmp_path / "a/000.png"), pixels(tmp_path / "a/001.png"))
    with Image.open(tmp_path / "a/000.png") as drawn:
        xmp = ElementTree.fromstring(drawn.info["xmp"])
    kinds = [node.text for node in xmp.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")]
    assert kinds == ["http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"]


@pytest.mark.parametrize("prompt", ["a NAKED man", "topless at the beach", "erotic art", "in porn-style"])
def test_an_intimate_picture_is_not_drawn(tmp_path: Path, prompt: str) -> None:
    refused = run(tmp_path / "adapter", tmp_path / "out", "--face", tmp_path / "a.npz", "--prompt", prompt)
    assert isinstance(refused.exception, SafetyError) and not (tmp_path / "out").exists()
    require_decent(["a man in Essex with a red hat", "a portrait at a middlesex fair"])
    away = ("--face", tmp_path / "a.npz", "--prompt", "a hat", "--negative-prompt", prompt, "--guidance")
    towards = run(tmp_path / "adapter", tmp_path / "out", *away, 0.5)  # below 1 the negative prompt is drawn
    assert isinstance(towards.exception, SafetyError)
    assert isinstance(run(tmp_path / "adapter", tmp_path / "out", *away, 5).exception, UsageError)


@pytest.mark.slow
def test_without_the_adapter_faces_and_pose_change_nothing(adapter: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        face(seed).save(tmp_path / f"{seed}.npz")
        run(adapter, tmp_path / f"off{seed}", "--face", tmp_path / f"{seed}.npz", "--prompt", "a park", "--no-adapter")
    run(adapter, tmp_path / "on", "--face", tmp_path / "1.npz", "--prompt", "a park")
    off = (tmp_path / "off1/000.png").read_bytes()
    assert (tmp_path / "off2/000.png").read_bytes() == off
    assert (tmp_path / "on/000.png").read_bytes() != off


@pytest.mark.slow
def test_a_pose_is_framed_as_the_adapter_saw_faces_in_training(
    adapter: Path, model_config: ModelConfig, tmp_path: Path
) -> None:
    whole = exported(model_config, tmp_path / "whole", mode="full")
    face(1).save(tmp_path / "face.npz")
    words = ("--face", tmp_path / "face.npz", "--prompt", "a park")
    drawn = {}
    for name, folder in (("near", adapter), ("whole", whole)):
        for kind, pose in (("free", ()), ("posed", ("--pose", tmp_path / "face.npz"))):
            assert run(folder, tmp_path / name / kind, *words, *pose).exit_code == 0
            drawn[name, kind] = pixels(tmp_path / name / kind / "000.png")
    assert np.array_equal(drawn["near", "free"], drawn["whole", "free"])
    assert not np.array_equal(drawn["near", "posed"], drawn["whole", "posed"])


@pytest.mark.slow
@with_centerface
def test_a_photo_s_face_is_found_recognised_and_posed(base: Path, recogniser: Recogniser, tmp_path: Path) -> None:
    adapter = exported(tiny.tiny_config(base, recogniser=recogniser), tmp_path / "adapter")
    Image.fromarray(astronaut()).save(tmp_path / "photo.png")
    photo = ["--face", tmp_path / "photo.png", "--prompt", "a park", "--detector", "centerface"]
    photo += ["--weights", "centerface"]
    refused = run(adapter, tmp_path / "refused", *photo)
    assert "--accept-noncommercial" in str(refused.exception) and not (tmp_path / "refused").exists()
    accepted = [*photo, "--accept-noncommercial"]
    assert run(adapter, tmp_path / "free", *accepted).exit_code == 0
    posed = run(adapter, tmp_path / "posed", *accepted, "--pose", tmp_path / "photo.png")
    assert posed.exit_code == 0, posed.output
    assert np.abs(pixels(tmp_path / "free/000.png") - pixels(tmp_path / "posed/000.png")).max() > 2


@with_centerface
@pytest.mark.parametrize("mirrored", [False, True])
def test_of_several_faces_the_largest_is_taken(recogniser: Recogniser, mirrored: bool) -> None:
    from filters import faces

    picture = np.zeros((512, 1024, 3), np.uint8)
    picture[:, :512] = astronaut()
    picture[:384, 600:984] = np.asarray(Image.fromarray(astronaut()).resize((384, 384)))
    picture = np.ascontiguousarray(picture[:, ::-1] if mirrored else picture)
    finder = faces.build(faces.Measure(detector="centerface", weights="centerface"), "cpu")
    (evidence,) = finder.measure([picture])
    assert len(evidence.faces) >= 2
    known = load_recogniser(recogniser, accept_noncommercial=True)
    found = prepare_face(picture, finder, known, tiny.CLIP_SIDE, "insightface-512")
    assert (found.box[0] > 512) == mirrored
    assert found.clip_pixels_3SS.shape == (3, tiny.CLIP_SIDE, tiny.CLIP_SIDE)
    assert abs(np.linalg.norm(found.identity_D) - 1) < 1e-5 and found.recogniser == recogniser


@pytest.mark.slow
@with_models
@with_centerface
def test_a_face_seen_by_a_real_recogniser_is_drawn(base: Path, tmp_path: Path) -> None:
    weights = find_recogniser(MOBILEFACENET, accept_noncommercial=True)
    config = tiny.tiny_config(base, recogniser=Recogniser(name=MOBILEFACENET, width=128, sha256=weights.sha256))
    adapter = exported(config, tmp_path / "adapter")
    Image.fromarray(astronaut()).save(tmp_path / "photo.png")
    photo = ["--face", tmp_path / "photo.png", "--prompt", "a park", "--detector", "centerface"]
    result = run(adapter, tmp_path / "out", *photo, "--weights", "centerface", "--accept-noncommercial")
    assert result.exit_code == 0, result.output
    assert pixels(tmp_path / "out/000.png").shape == (64, 64, 3)


@pytest.mark.slow
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(adapter: Path, tmp_path: Path) -> None:
    face(1).save(tmp_path / "one.npz")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0torn")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:300])
    good = ("--face", tmp_path / "one.npz", "--prompt", "a park")
    for message, arguments in (
        ("multiples of 8", (*good, "--height", 60)),
        ("as many mixing weights", (*good, "--mix", 1, "--mix", 2)),
        ("torn.jpg", ("--face", tmp_path / "torn.jpg", "--prompt", "a park")),
        ("no such file", ("--face", tmp_path / "gone.jpg", "--prompt", "a park")),
        ("detector", (*good, "--detector", "haar")),
        ("not a face that", ("--face", tmp_path / "torn.npz", "--prompt", "a park")),
        ("no adapter_config.json", ()),
    ):
        folder = adapter if arguments else tmp_path
        result = run(folder, tmp_path / "out", *(arguments or good))
        assert isinstance(result.exception, UsageError) and message in str(result.exception)
        assert not (tmp_path / "out").exists()
    nowhere = run(adapter, tmp_path / "out", *good, "--device", "cuda:7").exception
    assert isinstance(nowhere, DeviceError) and not (tmp_path / "out").exists()
    assert run(adapter, tmp_path / "out", *good).exit_code == 0
    assert "holds pictures already" in str(run(adapter, tmp_path / "out", *good).exception)


@with_centerface
def test_a_photo_without_a_face_is_named(base: Path, recogniser: Recogniser, tmp_path: Path) -> None:
    adapter = exported(tiny.tiny_config(base, recogniser=recogniser), tmp_path / "adapter")
    Image.new("RGB", (200, 160), "teal").save(tmp_path / "wall.png")
    result = run(
        adapter,
        tmp_path / "out",
        *("--face", tmp_path / "wall.png", "--prompt", "x", "--accept-noncommercial"),
        *("--detector", "centerface", "--weights", "centerface"),
    )
    assert isinstance(result.exception, UsageError)
    assert "wall.png: no face is found in this picture of 200x160" in str(result.exception)


def test_a_sideways_photo_is_read_upright(tmp_path: Path) -> None:
    image = Image.fromarray(astronaut()[:, :400])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "side.jpg", exif=exif, quality=95)
    assert read_picture(tmp_path / "side.jpg").shape == (400, 512, 3)
