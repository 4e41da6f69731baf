"""What a recipe may admit besides JPEG, PNG and WEBP: GIF, AVIF, and first frames."""

import random
import struct

import numpy as np
import pytest
from PIL import Image

from curation.images import decode as gate
from curation.images.containers import WALKERS, strip_metadata
from curation.images.decode import Picture, UnreadableError, decode, require_decoders
from curation.recipe.settings import DEFAULT_FORMATS, EVERY_FORMAT, DecodeLimits
from tests import pictures, profiles
from tests.curation.images.grids import grid_avif

EVERY = DecodeLimits().admitting_all()
STILL = DecodeLimits(formats=EVERY_FORMAT)
SCENE = pictures.scene(1, 64, 48)


def reason_of(image_bytes: bytes, limits: DecodeLimits) -> str:
    with pytest.raises(UnreadableError) as caught:
        decode(image_bytes, limits)
    return caught.value.reason


def read(image_bytes: bytes) -> Picture:
    return decode(image_bytes, EVERY)


def avif(**options: object) -> bytes:
    return pictures.encode(SCENE, "AVIF", quality=95, subsampling="4:4:4", speed=10, **options)


def test_a_recipe_that_says_nothing_has_the_digests_of_before_and_refuses_by_name() -> None:
    assert set(DecodeLimits().model_dump()) == {"max_bytes", "max_pixels", "max_aspect", "min_side_px"}
    assert DecodeLimits(formats=("webp", "png", "jpg")) == DecodeLimits()
    assert DecodeLimits(formats=("avif", "jpg")).model_dump()["formats"] == ("jpg", "avif")
    assert DecodeLimits.model_validate(EVERY.model_dump(mode="json")) == EVERY
    assert reason_of(avif(), DecodeLimits()) == "format_avif"
    assert reason_of(pictures.encode(SCENE, "png"), DecodeLimits(formats=("jpg",))) == "format_png"


def test_a_gif_is_its_pixels_and_an_avif_nearly() -> None:
    palette = Image.fromarray(SCENE).quantize(64)
    gif = read(pictures.encode(palette, "GIF"))
    assert (gif.format, gif.width, gif.height) == ("gif", 64, 48)
    assert np.array_equal(gif.rgb, np.asarray(palette.convert("RGB")))
    picture = read(avif())
    assert (picture.format, picture.width, picture.height) == ("avif", 64, 48)
    assert np.abs(picture.rgb.astype(int) - SCENE).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_set_upright(orientation: int) -> None:
    stored = pictures.laid_down(SCENE, orientation)
    tagged = read(pictures.encode(stored, "AVIF", exif=pictures.exif(orientation), speed=10, quality=95))
    assert (tagged.width, tagged.height, tagged.orientation) == (64, 48, orientation)
    assert np.abs(tagged.rgb.astype(int) - SCENE).mean() < 5


def test_an_avif_follows_its_profile_and_lies_on_white_where_it_is_transparent() -> None:
    swapped = read(avif(icc_profile=profiles.rgb_profile("grb")))
    assert np.abs(swapped.rgb[..., ::1].astype(int) - SCENE).mean() > 5
    clear = Image.fromarray(np.dstack([SCENE, np.zeros((48, 64, 1), np.uint8)]))
    assert read(pictures.encode(clear, "AVIF", speed=10)).rgb.min() > 250


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "AVIF"])
def test_an_animation_is_its_first_frame_where_that_is_admitted_and_refused_elsewhere(kind: str) -> None:
    animation = pictures.animation(kind)
    assert reason_of(animation, STILL) == "animated"
    shown = read(animation).rgb.astype(int)
    assert np.abs(shown - pictures.scene(0)).mean() < 12 < np.abs(shown - pictures.scene(1)).mean()


def test_an_animation_whose_first_frame_covers_a_part_alone_is_refused() -> None:
    frame = pictures.webp_chunk(
        b"ANMF", bytes(6) + b"\x1f\0\0\x17\0\0" + bytes(4) + pictures.encode(SCENE, "webp")[12:]
    )
    canvas = pictures.webp_chunk(b"VP8X", b"\2\0\0\0\x3f\0\0\x2f\0\0")
    assert reason_of(pictures.webp(canvas, pictures.webp_chunk(b"ANIM", bytes(6)), frame), EVERY) == "animated"


def lying_gif(width: int, height: int) -> bytes:
    gif = pictures.encode(SCENE, "GIF")
    return gif[:6] + struct.pack("<HH", width, height) + gif[10:]


def lying_avif(width: int, height: int) -> bytes:
    image_bytes = avif()
    place = image_bytes.index(b"ispe") + 8
    return image_bytes[:place] + struct.pack(">II", width, height) + image_bytes[place + 8 :]


def test_what_a_gif_claims_is_held_against_the_limits_before_any_decoder_sees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reason_of(lying_gif(32, 24), EVERY) == "corrupt"
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a decoder was entered"))
    assert reason_of(lying_gif(20_000, 20_000), EVERY) == "too_many_pixels"
    assert reason_of(lying_gif(15, 400), EVERY) == "side_too_small"


def test_an_avif_that_claims_another_size_than_its_stream_codes_reaches_no_decoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pillow would unpack the large picture and shrink it to the small one that is claimed."""
    large = pictures.encode(pictures.scene(1, 330, 16), "AVIF", speed=10)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a decoder was entered"))
    assert reason_of(large, DecodeLimits(formats=("avif",), max_pixels=5000)) == "too_many_pixels"
    assert reason_of(large, EVERY) == "aspect_too_extreme"
    assert {reason_of(lying_avif(*size), EVERY) for size in ((32, 24), (128, 96), (20_000, 20_000))} == {"corrupt"}


@pytest.mark.parametrize("image_format", ["GIF", "AVIF"])
def test_a_cut_file_is_refused(image_format: str) -> None:
    whole = pictures.encode(SCENE, image_format)
    assert {reason_of(whole[: len(whole) * percent // 100], EVERY) for percent in (50, 90, 99)} == {"truncated"}


def test_mutants_of_gif_and_avif_are_pictures_or_have_a_reason() -> None:
    rng = random.Random(31)
    seeds = [
        pictures.encode(SCENE, "GIF"),
        pictures.animation("gif"),
        avif(exif=pictures.exif(6)),
        pictures.animation("AVIF"),
    ]
    outcomes = set()
    for n in range(1500):
        try:
            picture = read(pictures.mutate(seeds[n % 4], rng))
        except UnreadableError as error:
            assert error.reason in gate.REASONS
            outcomes.add(error.reason)
        else:
            assert picture.rgb.shape == (picture.height, picture.width, 3)
            outcomes.add("a picture")
    assert {"a picture", "corrupt", "truncated"} <= outcomes


def test_every_format_that_a_recipe_may_name_is_one_that_is_read_and_decoded_here() -> None:
    assert set(DEFAULT_FORMATS) < set(WALKERS) == set(EVERY_FORMAT)
    for name in EVERY_FORMAT:
        assert read(pictures.encode(SCENE, "jpeg" if name == "jpg" else name)).format == name
    require_decoders(EVERY)


def test_the_avif_decoder_uses_no_threads_of_its_own() -> None:
    from PIL import AvifImagePlugin

    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1


def test_an_avif_of_tiles_is_one_picture_and_loses_the_names_of_its_items_alone() -> None:
    tiles = [pictures.scene(seed, 64, 64) for seed in (1, 2, 3)]
    secret = b"a secret place"
    whole = grid_avif(tiles, secret)
    picture = read(whole)
    assert (picture.format, picture.width, picture.height) == ("avif", 192, 64)
    assert np.abs(picture.rgb.astype(int) - np.concatenate(tiles, axis=1)).mean() < 3
    stripped = strip_metadata(whole, "avif")
    assert secret not in stripped and np.array_equal(read(stripped).rgb, picture.rgb)


def test_tiles_far_larger_than_the_picture_that_they_make_reach_no_decoder() -> None:
    whole = grid_avif([pictures.scene(seed, 512, 512) for seed in (1, 2, 3)])
    place = whole.index(b"ispe") + 8
    assert reason_of(whole[:place] + struct.pack(">II", 64, 32) + whole[place + 8 :], EVERY) == "corrupt"
