import pickle
import random
import struct
import tracemalloc
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from curation.images import decode as decode_module
from curation.images.containers import strip_metadata
from curation.images.decode import REASONS, Picture, UnreadableError, decode
from curation.images.turbo import turbo_pixels
from curation.recipe.settings import DEFAULT_FORMATS, DecodeLimits
from filters.base import RgbImage
from tests import pictures
from tests.curation.images import strangers

LIMITS = DecodeLimits()
SCENE = pictures.scene(1, 64, 48)
BLOCKS = pictures.noise(2, 8, 6).repeat(8, axis=0).repeat(8, axis=1)
"""A picture that JPEG keeps but for rounding: each of its blocks is one colour."""
NUM_MUTANTS = 10_000


def read(image_bytes: bytes) -> Picture:
    return decode(image_bytes, LIMITS)


def reason_of(image_bytes: bytes, limits: DecodeLimits = LIMITS) -> str:
    with pytest.raises(UnreadableError) as caught:
        decode(image_bytes, limits)
    return caught.value.reason


def lying_jpeg(width: int, height: int) -> bytes:
    jpeg = pictures.encode(SCENE, "jpg")
    frame = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:frame] + struct.pack(">HH", height, width) + jpeg[frame + 4 :]


def lying_webp(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    picture = pictures.encode(SCENE, "webp")[12:]
    return pictures.webp(pictures.webp_chunk(b"VP8X", bytes(4) + canvas), picture)


def zeros_png(side: int) -> bytes:
    """A true bomb: a black 1-bit picture, whose every pixel is there once it is unpacked."""
    packer, row = zlib.compressobj(1), bytes(side // 8 + 1)
    coded = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    header = pictures.png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"".join([pictures.PNG_START, header, pictures.png_chunk(b"IDAT", coded), pictures.png_chunk(b"IEND", b"")])


# ---------------------------------------------------------------- what is refused, and why

REFUSED: dict[str, bytes] = {
    "empty": b"",
    "too_many_bytes": pictures.encode(SCENE, "png") + bytes(LIMITS.max_bytes),
    "not_an_image": bytes(range(128, 256)),
    **{f"format_{name}": beginning for name, beginning in strangers.BEGINNINGS.items()},
    "animated": pictures.animation("png"),
    "too_many_pixels": lying_jpeg(65_000, 65_000),
    "side_too_small": pictures.encode(pictures.noise(1, 15, 200), "png"),
    "aspect_too_extreme": pictures.encode(pictures.noise(1, 16, 321), "jpg"),
    "truncated": pictures.encode(SCENE, "jpg")[:-1],
    "corrupt": pictures.encode(SCENE, "png").replace(b"IDAT", b"IDAX"),
    "jpeg_12_bit": strangers.odd_jpeg(0xC1, precision=12),
    "jpeg_lossless": strangers.odd_jpeg(0xC3),
    "jpeg_hierarchical": strangers.odd_jpeg(0xC5),
    "jpeg_arithmetic": strangers.odd_jpeg(0xCA),
    "jpeg_ls": strangers.odd_jpeg(0xF7),
    "colours_unknown": strangers.avif_of_colours(9, 16),
}
NARROW = {f"format_{name}": DecodeLimits(formats=("avif",)) for name in DEFAULT_FORMATS}
NARROW["colours_unknown"] = DecodeLimits(formats=("avif",))
"""Limits other than the usual, where a reason can only be met under these."""


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_the_table_has_a_file_that_is_refused_for_it(reason: str) -> None:
    assert reason_of(REFUSED[reason], NARROW.get(reason, LIMITS)) == reason


def test_an_error_says_its_reason_and_survives_the_way_between_processes() -> None:
    with pytest.raises(UnreadableError, match="side_too_small: 15x200 pixels; each side at least 16") as caught:
        read(REFUSED["side_too_small"])
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (copied.reason, str(copied)) == ("side_too_small", str(caught.value))


@pytest.mark.parametrize(
    "name", ["GIF", "BMP", "TIFF", "ICO", "PPM", "JPEG2000", "AVIF", "EPS", "TGA", "PCX", "PDF", "DDS"]
)
def test_no_parser_outside_the_list_is_ever_entered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = pictures.encode(SCENE, name)
    entered: list[str] = []

    def counted(parser: str, factory: Callable[..., Any]) -> Callable[..., Any]:
        def enter(*arguments: Any) -> Any:
            entered.append(parser)
            return factory(*arguments)

        return enter

    for parser, (factory, accept) in list(Image.OPEN.items()):
        monkeypatch.setitem(Image.OPEN, parser, (counted(parser, factory), accept))
    assert reason_of(stranger).startswith("format_")
    assert entered == []
    for image_format in pictures.FORMATS:
        read(pictures.encode(SCENE, image_format))
    assert set(entered) == {"JPEG", "PNG", "WEBP"}


@pytest.mark.parametrize(
    "stranger",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"8BPS\0\1",
        b"\0\0\0\x1cftypheic",
        b"SIMPLE  =                    T",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"RIFF\x24\0\0\0WAVE",
    ],
)
def test_what_is_neither_jpeg_nor_png_nor_webp_is_refused_by_its_first_bytes(stranger: bytes) -> None:
    assert reason_of(stranger + bytes(100)).startswith("format_")
    assert reason_of(b"\xff\xd8" + bytes(100)) == "not_an_image"


@pytest.mark.parametrize("image_format", pictures.FORMATS)
def test_the_format_is_what_the_bytes_say(image_format: str) -> None:
    assert read(pictures.encode(SCENE, image_format)).format == image_format


@pytest.mark.parametrize("image_format", ["png", "webp"])
@pytest.mark.parametrize("num_frames", [1, 3])
def test_an_animation_is_refused_even_of_one_frame(image_format: str, num_frames: int) -> None:
    still = pictures.encode(SCENE, image_format)
    if image_format == "png":
        actl = pictures.png_chunk(b"acTL", struct.pack(">II", num_frames, 0))
        assert reason_of(pictures.with_png_chunks(still, actl)) == "animated"
    else:
        frame = pictures.webp_chunk(b"ANMF", bytes(6) + b"\x3f\0\0\x2f\0\0" + bytes(4) + still[12:])
        canvas = pictures.webp_chunk(b"VP8X", b"\2\0\0\0\x3f\0\0\x2f\0\0")
        anim = pictures.webp_chunk(b"ANIM", bytes(6))
        assert reason_of(pictures.webp(canvas, anim, *[frame] * num_frames)) == "animated"


@pytest.mark.parametrize("percent", [50, 90, 99])
@pytest.mark.parametrize("name", pictures.seeded_pictures())
def test_a_cut_file_is_refused(name: str, percent: int) -> None:
    seed = pictures.seeded_pictures()[name]
    assert reason_of(seed[: len(seed) * percent // 100]) in ("truncated", "animated")


@pytest.mark.parametrize("image_format", pictures.FORMATS)
def test_a_file_cut_inside_what_follows_its_pixels_is_refused(image_format: str) -> None:
    whole = pictures.encode(SCENE, image_format, exif=pictures.exif(1, "a" * 500), xmp=b"b" * 500, comment=b"c")
    assert read(whole).format == image_format
    assert all(reason_of(whole[:-num_missing]) == "truncated" for num_missing in range(1, 12))


def test_a_file_cut_at_90_percent_that_ends_like_a_whole_one_is_refused_where_the_format_can_tell() -> None:
    png, webp = pictures.encode(SCENE, "png"), pictures.encode(SCENE, "webp")
    rest = strip_metadata(webp, "webp")[20:]
    coded = png[png.index(b"IDAT") + 4 : -16]
    mended_png = pictures.with_png_chunks(
        png[:33] + pictures.png_chunk(b"IEND", b""), pictures.png_chunk(b"IDAT", coded[: len(coded) * 9 // 10])
    )
    mended_webp = pictures.webp(pictures.webp_chunk(b"VP8 ", rest[: len(rest) * 9 // 10]))
    assert [reason_of(mended_png), reason_of(mended_webp)] == ["corrupt", "corrupt"]


def test_a_process_in_which_pillow_was_told_to_accept_cut_files_does_not_decode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="LOAD_TRUNCATED_IMAGES"):
        read(pictures.encode(SCENE, "jpg"))


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_not_the_fault_of_the_file_is_not_a_reason(
    fatal: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Image.OPEN, "PNG", (lambda *_: (_ for _ in ()).throw(fatal()), Image.OPEN["PNG"][1]))
    with pytest.raises(fatal):
        read(pictures.encode(SCENE, "png"))


# ---------------------------------------------------------------- bombs


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(lambda: zeros_png(9_000), id="png of 81 million pixels"),
        pytest.param(lambda: zeros_png(32_000), id="png of 1024 million pixels"),
        pytest.param(lambda: lying_jpeg(20_900, 20_900), id="small jpeg that claims 437 million pixels"),
        pytest.param(lambda: lying_webp(16_384, 16_384), id="small webp that claims 268 million pixels"),
    ],
)
def test_a_bomb_is_refused_before_any_decoder_sees_it(
    bomb: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    image_bytes = bomb()
    entered: list[str] = []
    monkeypatch.setattr(Image, "open", lambda *_, **__: entered.append("open"))
    tracemalloc.start()
    try:
        assert reason_of(image_bytes) == "too_many_pixels"
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert entered == []
    assert peak_bytes < len(image_bytes) + (1 << 20)


def test_a_text_chunk_that_unpacks_to_gigabytes_is_never_unpacked() -> None:
    bomb = zlib.compress(bytes(64 << 20))
    png = pictures.with_png_chunks(pictures.encode(SCENE, "png"), pictures.png_chunk(b"zTXt", b"Comment\0\0" + bomb))
    tracemalloc.start()
    try:
        assert np.array_equal(read(png).rgb, SCENE)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_pillows_own_bomb_warning_becomes_a_reason_and_does_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert reason_of(pictures.encode(SCENE, "png")) == "too_many_pixels"
    assert caught == []


def test_two_sizes_in_one_file_are_refused() -> None:
    assert reason_of(lying_webp(63, 48)) == "corrupt"


@pytest.mark.parametrize("image_format", pictures.FORMATS)
@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (1, 1, "side_too_small"),
        (1, 4000, "side_too_small"),
        (4000, 3, "side_too_small"),
        (330, 16, "aspect_too_extreme"),
    ],
)
def test_a_sliver_is_refused(image_format: str, width: int, height: int, reason: str) -> None:
    assert reason_of(pictures.encode(pictures.noise(1, width, height), image_format)) == reason


@pytest.mark.parametrize("size", [(0, 40), (40, 0), (0, 0)])
def test_a_side_of_no_pixels_is_refused(size: tuple[int, int]) -> None:
    assert reason_of(lying_jpeg(*size)) == "side_too_small"
    assert reason_of(pictures.raw_png(*size, 8, 2, b"")) == "side_too_small"


@pytest.mark.parametrize("image_format", pictures.FORMATS)
@pytest.mark.parametrize("picture", [pictures.solid((0, 0, 0)), pictures.solid((255, 255, 255)), pictures.noise(1)])
def test_a_constant_and_a_noisy_picture_are_pictures(image_format: str, picture: RgbImage) -> None:
    assert read(pictures.encode(picture, image_format)).rgb.shape == picture.shape


def test_limits_include_their_own_value() -> None:
    png = pictures.encode(pictures.noise(1, 16, 320), "png")
    exact = DecodeLimits(max_bytes=len(png), max_pixels=16 * 320, max_aspect=20.0, min_side_px=16)
    assert decode(png, exact).height == 320


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", pictures.FORMATS)
def test_every_orientation_is_set_upright(image_format: str, orientation: int) -> None:
    stored = pictures.laid_down(SCENE, orientation)
    options = {"lossless": True} if image_format == "webp" else {}
    tagged = read(pictures.encode(stored, image_format, exif=pictures.exif(orientation), **options))
    untagged = read(pictures.encode(stored, image_format, **options))
    assert (tagged.width, tagged.height, tagged.orientation) == (64, 48, orientation)
    assert tagged.rgb.shape == (48, 64, 3)
    assert np.array_equal(pictures.laid_down(tagged.rgb, orientation), untagged.rgb)
    if image_format != "jpg":
        assert np.array_equal(tagged.rgb, SCENE)


@pytest.mark.parametrize("image_format", pictures.FORMATS)
def test_a_broken_exif_block_leaves_the_picture_as_it_lies(image_format: str) -> None:
    torn = pictures.exif(6, "a face", 52.0)[:16]
    picture = read(pictures.encode(SCENE, image_format, exif=torn))
    assert (picture.orientation, picture.width, picture.height) == (1, 64, 48)


def test_the_pixels_are_contiguous_and_no_filter_can_change_what_the_next_one_sees() -> None:
    rgb = read(pictures.encode(SCENE, "png", exif=pictures.exif(6))).rgb
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert not rgb.flags.writeable


def test_an_mpo_is_its_first_picture() -> None:
    first, second = (Image.fromarray(pictures.scene(seed)) for seed in (1, 2))
    mpo = pictures.encode(first, "MPO", save_all=True, append_images=[second])
    picture = read(mpo)
    assert picture.format == "jpg"
    assert np.array_equal(picture.rgb, read(pictures.encode(first, "jpg")).rgb)


@pytest.mark.parametrize(
    "payload", [b"PK\x03\x04 a zip", b"<html><script>alert(1)</script></html>", b"GIF89a", bytes(9)]
)
@pytest.mark.parametrize("image_format", pictures.FORMATS)
def test_a_polyglot_decodes_to_its_picture_and_strips_to_nothing_else(image_format: Any, payload: bytes) -> None:
    clean = pictures.encode(SCENE, image_format)
    assert np.array_equal(read(clean + payload).rgb, read(clean).rgb)
    assert strip_metadata(clean + payload, image_format) == strip_metadata(clean, image_format)
    assert not strip_metadata(clean + payload, image_format).endswith(payload)


# ---------------------------------------------------------------- mutants


@pytest.mark.slow
def test_ten_thousand_mutants_are_pictures_or_have_a_reason() -> None:
    rng, seeds = random.Random(2026), list(pictures.seeded_pictures().values())
    outcomes: Counter[str] = Counter()
    for n in range(NUM_MUTANTS):
        mutant = pictures.mutate(seeds[n % len(seeds)], rng)
        try:
            picture = read(mutant)
        except UnreadableError as error:
            assert error.reason in REASONS
            outcomes[error.reason] += 1
        else:
            assert picture.rgb.shape == (picture.height, picture.width, 3)
            outcomes["a picture"] += 1
    assert outcomes.total() == NUM_MUTANTS
    assert min(outcomes[outcome] for outcome in ("a picture", "corrupt", "truncated", "animated")) > 100


def test_plain_jpegs_and_their_mutants_give_what_pillow_alone_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, num_decoded = random.Random(78), Counter[bool]()
    kinds = [{"subsampling": 0}, {"subsampling": 2, "progressive": True}, {"quality": 35}, {"restart_marker_rows": 1}]
    seeds = [pictures.encode(SCENE, "jpg", **kind) for kind in kinds]
    files = [*seeds, *(pictures.mutate(seeds[n % len(seeds)], rng) for n in range(2000))]

    def counted(jpeg: bytes, image: Image.Image) -> RgbImage | None:
        pixels = turbo_pixels(jpeg, image)
        num_decoded[pixels is not None] += 1
        return pixels

    def outcomes() -> list[Any]:
        return [reason_or_pixels(file) for file in files]

    monkeypatch.setattr(decode_module, "turbo_pixels", counted)
    ours = outcomes()
    monkeypatch.setattr(decode_module, "turbo_pixels", lambda *_: None)
    assert ours == outcomes()
    assert min(num_decoded.values()) > 100, num_decoded


def reason_or_pixels(image_bytes: bytes) -> Any:
    try:
        picture = read(image_bytes)
    except UnreadableError as error:
        return error.reason
    assert not picture.rgb.flags.writeable
    return picture.width, picture.height, picture.rgb.tobytes()


def test_the_mutants_are_the_same_every_time() -> None:
    seed = pictures.encode(SCENE, "png")
    first, second = ([pictures.mutate(seed, rng) for _ in range(50)] for rng in (random.Random(5), random.Random(5)))
    assert first == second
    assert len(set(first)) > 45
