import io
import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from curation.images.containers import (
    WALKERS,
    ContainerError,
    ImageFormat,
    image_end,
    read_container,
    sniff_format,
    strip_metadata,
)
from filters.base import RgbImage
from tests import pictures, profiles

SECRET = b"a secret place, 52.3702 N"
THUMBNAIL = pictures.encode(pictures.noise(9, 16, 16), "jpg")
PROFILE = profiles.rgb_profile()
FORMATS: tuple[ImageFormat, ...] = ("jpg", "png", "webp")
STILL = {name: seed for name, seed in pictures.seeded_pictures().items() if not name.endswith("animated")}
JUNK = st.binary(max_size=200).map(lambda junk: SECRET + junk)


def seen_by_pillow(image_bytes: bytes) -> RgbImage:
    """Upright pixels, by Pillow's own reading of the metadata."""
    with Image.open(io.BytesIO(image_bytes)) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGBA"))


def format_of(image_bytes: bytes) -> ImageFormat:
    found = sniff_format(image_bytes)
    assert found is not None
    return found


@st.composite
def loaded_jpegs(draw: st.DrawFn) -> bytes:
    """JPEGs with comments, EXIF, XMP, thumbnails, stray and trailing bytes."""
    block = pictures.exif(draw(st.none() | st.integers(1, 8)), SECRET.decode(), draw(st.floats(0, 90)))
    jpeg = pictures.encode(
        pictures.scene(draw(st.integers(0, 99)), draw(st.integers(1, 40)), draw(st.integers(1, 40))),
        "jpg",
        progressive=draw(st.booleans()),
        icc_profile=draw(st.sampled_from([None, PROFILE, bytes(70_000)])),
        restart_marker_rows=draw(st.integers(0, 2)),
    )
    segments = [
        pictures.jpeg_segment(0xE1, b"Exif\0\0" + block.removeprefix(b"Exif\0\0")),
        pictures.jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + draw(JUNK)),
        pictures.jpeg_segment(0xE0, b"JFXX\0\x10" + THUMBNAIL),
        pictures.jpeg_segment(0xE2, b"FPXR\0" + draw(JUNK)),
        pictures.jpeg_segment(0xED, draw(JUNK)),
        pictures.jpeg_segment(0xFE, draw(JUNK)),
        b"\xff" * draw(st.integers(0, 3)) + pictures.jpeg_segment(0xFE, SECRET),
    ]
    chosen = draw(st.permutations(segments))[: draw(st.integers(0, len(segments)))]
    return pictures.with_jpeg_segments(jpeg, *chosen) + draw(st.sampled_from([b"", SECRET, THUMBNAIL]))


@st.composite
def loaded_pngs(draw: st.DrawFn) -> bytes:
    """PNGs with text, time, EXIF, private chunks, broken ancillary checksums and trailing bytes."""
    mode = draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA"]))
    picture = pictures.scene(draw(st.integers(0, 99)), draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    png = pictures.encode(
        Image.fromarray(picture).convert(mode),
        "png",
        icc_profile=draw(st.sampled_from([None, PROFILE])) if mode == "RGB" else None,
        **({"transparency": 1} if mode == "P" and draw(st.booleans()) else {}),
    )
    block = pictures.exif(draw(st.none() | st.integers(1, 8)), SECRET.decode(), draw(st.floats(0, 90)))
    chunks = [
        pictures.png_chunk(b"eXIf", block.removeprefix(b"Exif\0\0")),
        pictures.png_chunk(b"tEXt", b"Comment\0" + draw(JUNK)),
        pictures.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + SECRET),
        pictures.png_chunk(b"tIME", b"\x07\xe9\1\1\1\1\1"),
        pictures.png_chunk(b"prVt", draw(JUNK)),
    ]
    chosen = draw(st.permutations(chunks))[: draw(st.integers(0, len(chunks)))]
    return pictures.with_png_chunks(png, *chosen) + draw(st.sampled_from([b"", SECRET]))


@st.composite
def loaded_webps(draw: st.DrawFn) -> bytes:
    """WEBPs with EXIF, XMP, unknown chunks and trailing bytes."""
    picture = pictures.scene(draw(st.integers(0, 99)), draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    alpha = draw(st.booleans())
    return pictures.encode(
        np.dstack([picture, picture[..., :1]]) if alpha else picture,
        "webp",
        lossless=draw(st.booleans()),
        exact=True,
        icc_profile=draw(st.sampled_from([b"", PROFILE])),
        exif=draw(st.sampled_from([b"", *(pictures.exif(n, SECRET.decode(), 52.0) for n in range(1, 9))])),
        xmp=draw(st.sampled_from([b"", SECRET])),
    ) + draw(st.sampled_from([b"", SECRET]))


@given(st.one_of(loaded_jpegs(), loaded_pngs(), loaded_webps()))
def test_stripping_keeps_every_pixel_and_no_secret(loaded: bytes) -> None:
    image_format = format_of(loaded)
    stripped = strip_metadata(loaded, image_format)
    assert np.array_equal(seen_by_pillow(stripped), seen_by_pillow(loaded))
    assert SECRET not in stripped
    assert THUMBNAIL not in stripped
    assert strip_metadata(stripped, image_format) == stripped
    assert image_end(stripped, image_format) == len(stripped)


@given(st.one_of(loaded_jpegs(), loaded_pngs(), loaded_webps()))
def test_of_exif_only_the_orientation_stays(loaded: bytes) -> None:
    with Image.open(io.BytesIO(loaded)) as image:
        orientation, profile = image.getexif().get(0x0112, 1), image.info.get("icc_profile")
    with Image.open(io.BytesIO(strip_metadata(loaded, format_of(loaded)))) as image:
        assert dict(image.getexif()) == ({} if orientation == 1 else {0x0112: orientation})
        assert image.info.get("icc_profile") == profile
        assert not {"comment", "xmp", "XML:com.adobe.xmp", "Comment"} & set(image.info)


@pytest.mark.parametrize("name", STILL)
def test_the_coded_bytes_are_those_of_the_file(name: str) -> None:
    seed = STILL[name]
    coded = {"jpg": (b"\xda", b"\xdb"), "png": (b"IDAT",), "webp": (b"VP8 ", b"VP8L", b"ALPH")}[format_of(seed)]
    stripped = read_container(strip_metadata(seed, format_of(seed)), format_of(seed))
    original = read_container(seed, format_of(seed))
    assert [part.raw for part in stripped.parts if part.kind in coded] == [
        part.raw for part in original.parts if part.kind in coded
    ]


@pytest.mark.parametrize("name", pictures.seeded_pictures())
def test_a_file_cut_anywhere_has_no_end(name: str) -> None:
    seed = pictures.seeded_pictures()[name]
    image_format = format_of(seed)
    assert image_end(seed, image_format) == len(seed)
    assert all(image_end(seed[:cut], image_format) is None for cut in range(len(seed)))


@pytest.mark.parametrize("name", pictures.seeded_pictures())
def test_the_end_is_found_before_whatever_follows(name: str) -> None:
    seed = pictures.seeded_pictures()[name]
    assert image_end(seed + b"PK\x03\x04 a zip" + seed, format_of(seed)) == len(seed)


def test_a_thumbnail_inside_exif_is_not_the_end_of_a_jpeg() -> None:
    seed = pictures.encode(pictures.scene(1), "jpg")
    jpeg = pictures.with_jpeg_segments(seed, pictures.jpeg_segment(0xE1, b"Exif\0\0II*\0" + THUMBNAIL))
    assert image_end(jpeg, "jpg") == len(jpeg)
    assert strip_metadata(jpeg, "jpg") == strip_metadata(seed, "jpg")


def test_an_mpo_becomes_its_first_picture() -> None:
    first, second = (Image.fromarray(pictures.scene(seed)) for seed in (1, 2))
    mpo = pictures.encode(first, "MPO", save_all=True, append_images=[second])
    stripped = strip_metadata(mpo, "jpg")
    assert len(stripped) < 0.6 * len(mpo)
    with Image.open(io.BytesIO(stripped)) as image, Image.open(io.BytesIO(mpo)) as original:
        assert (image.format, original.format) == ("JPEG", "MPO")
        assert np.array_equal(np.array(image), np.array(original))


def test_jfif_and_adobe_segments_keep_their_fields_and_nothing_behind_them() -> None:
    cmyk = pictures.encode(Image.fromarray(pictures.scene(1)).convert("CMYK"), "jpg")
    adobe = cmyk.index(b"Adobe")
    jfif = pictures.jpeg_segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\4\2" + SECRET[:24])
    tailed = cmyk[: adobe - 4] + jfif + pictures.jpeg_segment(0xEE, cmyk[adobe : adobe + 12] + SECRET)
    tailed += cmyk[adobe + 12 :]
    stripped = strip_metadata(tailed, "jpg")
    assert SECRET[:24] not in stripped
    assert b"JFIF\0\1\2\0\0\1\0\1\0\0" in stripped
    assert np.array_equal(seen_by_pillow(stripped), seen_by_pillow(cmyk))


def test_stray_bytes_between_jpeg_segments_are_skipped_as_decoders_do() -> None:
    seed = pictures.encode(pictures.scene(1), "jpg")
    tables = seed.index(b"\xff\xdb")
    stray = seed[:tables] + b"stray\xff\x00\xff\xff" + seed[tables:]
    assert strip_metadata(stray, "jpg") == strip_metadata(seed, "jpg")


def test_an_ancillary_png_chunk_with_a_wrong_checksum_is_as_good_as_absent() -> None:
    seed = pictures.encode(pictures.scene(1), "png")
    chunk = bytearray(pictures.png_chunk(b"tRNS", b"\0\1\0\1\0\1"))
    chunk[-1] ^= 1
    assert strip_metadata(pictures.with_png_chunks(seed, bytes(chunk)), "png") == seed


def test_an_animated_png_strips_to_its_still_picture() -> None:
    stripped = strip_metadata(pictures.animation("png"), "png")
    with Image.open(io.BytesIO(stripped)) as image:
        assert getattr(image, "n_frames", 1) == 1
        assert np.array_equal(np.array(image), pictures.scene(0))


def test_the_flags_of_a_stripped_webp_name_what_is_left() -> None:
    rgba = np.dstack([pictures.scene(1), pictures.scene(2)[..., :1]])
    loaded = pictures.encode(rgba, "webp", exif=pictures.exif(1, "a face"), xmp=SECRET, icc_profile=PROFILE)
    stripped = read_container(strip_metadata(loaded, "webp"), "webp")
    assert [part.kind for part in stripped.parts] == [b"VP8X", b"ICCP", b"ALPH", b"VP8 "]
    assert stripped.parts[0].payload[0] == 0x30


def test_a_webp_profile_that_no_flag_announces_goes() -> None:
    loaded = bytearray(pictures.encode(pictures.scene(1), "webp", icc_profile=PROFILE))
    loaded[20] &= ~0x20
    assert b"ICCP" not in strip_metadata(bytes(loaded), "webp")


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize(("kind", "form"), [(3, "H"), (4, "I")])
def test_orientation_is_read_in_both_byte_orders_and_both_integer_types(byte_order: str, kind: int, form: str) -> None:
    start = {"<": b"II*\0", ">": b"MM\0*"}[byte_order]
    entry = struct.pack(f"{byte_order}HHI{form}", 0x0112, kind, 1, 8).ljust(12, b"\0")
    block = start + struct.pack(f"{byte_order}IH", 8, 1) + entry + bytes(4)
    jpeg = pictures.with_jpeg_segments(
        pictures.encode(pictures.scene(1), "jpg"), pictures.jpeg_segment(0xE1, b"Exif\0\0" + block)
    )
    assert read_container(jpeg, "jpg").orientation == 8


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"no tiff at all",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0" + struct.pack("<IH", 8, 9),
        b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, 9, 0),
        b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 2, 1, 6, 0),
    ],
    ids=["empty", "no tiff", "offset past the end", "entries past the end", "value 9", "a text"],
)
def test_a_broken_exif_block_means_orientation_1(block: bytes) -> None:
    seed = pictures.encode(pictures.scene(1), "png")
    loaded = pictures.with_png_chunks(seed, pictures.png_chunk(b"eXIf", block))
    assert read_container(loaded, "png").orientation == 1
    assert strip_metadata(loaded, "png") == seed


JPEG, PNG = STILL["jpeg"], pictures.encode(pictures.scene(1), "png")
BROKEN: dict[str, tuple[ImageFormat, bytes]] = {
    "a second start of image": ("jpg", JPEG[:2] + JPEG),
    "a reserved marker": ("jpg", JPEG[:2] + b"\xff\x02\0\2" + JPEG[2:]),
    "a segment shorter than its own length": ("jpg", JPEG[:2] + b"\xff\xfe\0\1" + JPEG[2:]),
    "no frame": ("jpg", b"\xff\xd8\xff\xd9"),
    "a chunk named in digits": ("png", pictures.with_png_chunks(PNG, pictures.png_chunk(b"1234", b""))),
    "an unknown critical chunk": ("png", pictures.with_png_chunks(PNG, pictures.png_chunk(b"CgBI", b""))),
    "a wrong critical checksum": ("png", PNG.replace(b"IEND\xae", b"IEND\xaf")),
    "two headers": ("png", pictures.with_png_chunks(PNG, PNG[8:33])),
    "no header": ("png", PNG[:8] + PNG[33:]),
    "a chunk past the end": ("webp", pictures.webp(b"VP8 \xff\0\0\0")),
    "a canvas of 4 bytes": ("webp", pictures.webp(pictures.webp_chunk(b"VP8X", bytes(4)))),
    "no picture": ("webp", pictures.webp(pictures.webp_chunk(b"EXIF", b"II*\0"))),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_container_that_cannot_be_walked_is_a_named_error(fault: str) -> None:
    image_format, image_bytes = BROKEN[fault]
    with pytest.raises(ContainerError, match=image_format):
        strip_metadata(image_bytes, image_format)


PART_OF_A_CANVAS = pictures.webp(
    pictures.webp_chunk(b"VP8X", b"\2\0\0\0\x3f\0\0\x2f\0\0"),
    pictures.webp_chunk(b"ANIM", bytes(6)),
    pictures.webp_chunk(b"ANMF", bytes(6) + b"\x1f\0\0\x17\0\0" + bytes(4) + STILL["webp"][12:]),
)
"""A frame of 32 x 24 pixels in a corner of 64 x 48."""


@pytest.mark.parametrize("image_bytes", [PART_OF_A_CANVAS, STILL["jpeg"][:-1], STILL["webp"][:-1], PNG[:-1]])
def test_what_is_cut_or_has_no_single_picture_is_not_stripped(image_bytes: bytes) -> None:
    with pytest.raises(ContainerError):
        strip_metadata(image_bytes, format_of(image_bytes))


def test_mutants_are_walked_or_named_and_stripping_them_is_idempotent() -> None:
    rng, seeds = random.Random(11), list(pictures.seeded_pictures().values())
    num_stripped = 0
    for n in range(5000):
        seed = seeds[n % len(seeds)]
        mutant = pictures.mutate(seed, rng)
        try:
            stripped = strip_metadata(mutant, format_of(seed))
            assert strip_metadata(stripped, format_of(seed)) == stripped
            num_stripped += 1
        except ContainerError:
            pass
    assert num_stripped > 1000


# ---------------------------------------------------------------- GIF and AVIF, and the first frames of animations


def gif_with(*blocks: bytes) -> bytes:
    """A GIF with blocks put right before its first frame."""
    gif = pictures.encode(pictures.scene(1), "GIF")
    frame = gif.index(b"!\xf9") if b"!\xf9" in gif else gif.index(b",", 13 + 3 * 256)
    return gif[:frame] + b"".join(blocks) + gif[frame:]


def avif_with(**metadata: Any) -> bytes:
    """An AVIF with alpha, and what is given besides."""
    rgba = Image.fromarray(np.dstack([pictures.scene(2, 64, 48), pictures.noise(3, 64, 48)[..., :1]]))
    return pictures.encode(rgba, "AVIF", speed=10, **metadata)


SUB_BLOCKS = bytes([len(SECRET)]) + SECRET + b"\0"
LOADED = {
    "gif": gif_with(b"!\xfe" + SUB_BLOCKS, b"!\xff\x0bXMP DataXMP" + SUB_BLOCKS),
    "avif": avif_with(exif=pictures.exif(6, SECRET.decode(), 52.0), xmp=SECRET, icc_profile=PROFILE),
}
ANIMATED = ("gif", "png", "webp", "avif")


def walked(image_bytes: bytes) -> ImageFormat:
    found = sniff_format(image_bytes, WALKERS)
    assert found is not None
    return found


@pytest.mark.parametrize("image_format", LOADED)
def test_stripping_a_gif_or_avif_keeps_every_pixel_and_no_secret(image_format: ImageFormat) -> None:
    loaded = LOADED[image_format]
    assert SECRET in loaded and walked(loaded) == image_format
    for trailing in (b"", SECRET, b"PK\3\4 a zip"):
        stripped = strip_metadata(loaded + trailing, image_format)
        assert SECRET not in stripped and b"a zip" not in stripped
        assert np.array_equal(seen_by_pillow(stripped), seen_by_pillow(loaded))
        assert strip_metadata(stripped, image_format) == stripped
        assert image_end(stripped, image_format) == len(stripped)


def test_of_an_avif_its_alpha_profile_and_orientation_stay() -> None:
    with Image.open(io.BytesIO(strip_metadata(LOADED["avif"], "avif"))) as image:
        assert (image.mode, image.info["icc_profile"], "xmp" in image.info) == ("RGBA", PROFILE, False)
        assert dict(image.getexif()) == {0x0112: 6}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_and_mirrors_of_an_avif_are_the_orientation_that_they_were_written_for(orientation: int) -> None:
    container = read_container(avif_with(exif=pictures.exif(orientation)), "avif")
    assert (container.orientation, container.size) == (orientation, (64, 48))


def test_boxes_that_belong_to_no_picture_are_emptied_where_they_stand() -> None:
    seed = avif_with()
    box = struct.pack(">I4s", 8 + len(SECRET), b"uuid") + SECRET
    loaded = seed + box
    assert len(strip_metadata(loaded, "avif")) == len(loaded)
    assert SECRET not in strip_metadata(loaded, "avif")
    assert np.array_equal(seen_by_pillow(strip_metadata(loaded, "avif")), seen_by_pillow(seed))


@pytest.mark.parametrize("image_format", ANIMATED)
def test_an_animation_strips_to_its_first_frame(image_format: ImageFormat) -> None:
    animation = pictures.animation("AVIF" if image_format == "avif" else image_format)
    assert read_container(animation, image_format).is_animated
    stripped = strip_metadata(animation, image_format)
    assert not read_container(stripped, image_format).is_animated
    assert strip_metadata(stripped, image_format) == stripped
    with Image.open(io.BytesIO(stripped)) as image:
        assert getattr(image, "n_frames", 1) == 1
    assert np.array_equal(seen_by_pillow(stripped), seen_by_pillow(animation))


@pytest.mark.parametrize("image_format", LOADED)
def test_a_gif_or_avif_cut_anywhere_has_no_end(image_format: ImageFormat) -> None:
    loaded = LOADED[image_format]
    assert image_end(loaded, image_format) == len(loaded)
    lengths = range(12, len(loaded), 1 if image_format == "gif" else 7)
    assert all(image_end(loaded[:length], image_format) is None for length in lengths)


def test_an_item_of_countless_parts_of_no_length_is_refused_before_they_are_counted() -> None:
    loaded = bytearray(avif_with())
    place = loaded.index(b"iloc") + 8
    loaded[place : place + 2] = b"\0\0"
    loaded[place + 8 : place + 10] = b"\xff\xff"
    with pytest.raises(ContainerError, match="65535 parts of no length"):
        read_container(bytes(loaded), "avif")


def test_mutants_of_gif_and_avif_are_walked_or_named_and_stripping_them_is_idempotent() -> None:
    rng = random.Random(12)
    seeds = [*LOADED.values(), pictures.animation("gif"), pictures.animation("AVIF")]
    num_stripped = 0
    for n in range(3000):
        seed = seeds[n % len(seeds)]
        try:
            mutant = pictures.mutate(seed, rng)
            stripped = strip_metadata(mutant, walked(seed))
            assert strip_metadata(stripped, walked(seed)) == stripped
            num_stripped += 1
        except ContainerError:
            pass
    assert num_stripped > 300
