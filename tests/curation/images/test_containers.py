import io
import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from curation.images.containers import (
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


@pytest.mark.parametrize("image_bytes", [pictures.animation("webp"), STILL["jpeg"][:-1], STILL["webp"][:-1], PNG[:-1]])
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
