"""Builds the demo corpus: pictures made from real photos, and metadata about them as dirty as the real thing.

`build` writes the pictures, FaceCaption-shaped and LAION-shaped Parquet, and `truth.csv`. All of it is seeded: the
same installed packages and the same base URL give the same bytes.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from demo import photos
from demo.drawing import FACE_BOX, draw_face
from demo.metadata import Offer, Picture, write_facecaption, write_laion, write_truth
from demo.photos import Face, Photo
from demo.server import PLACEHOLDER, Route

NUM_SINGLE = 48
SINGLE_FORMATS = ("jpg", "jpg", "webp", "jpg", "jpg", "png", "jpg")
SIDES_PX = (256, 320, 384, 448, 512, 600, 640, 720, 768, 800, 900, 1024, 1200, 1280, 1440, 1600)
LARGEST_PNG_SIDE_PX = 640
EXIF_ORIENTATION = 0x0112
MEMES = (
    ("ONE DOES NOT SIMPLY", "SORT TEN MILLION FACES"),
    ("WHEN THE DOWNLOAD", "FINISHES ON MONDAY"),
    ("KEEP CALM AND", "COUNT EVERY ROW"),
    ("NOT SURE IF BUG", "OR UNDOCUMENTED FEATURE"),
    ("SUMMER SALE", "EVERYTHING MUST GO"),
    ("I READ THE LICENCE", "ALL OF IT"),
)
FACELESS = (
    ("chelsea.png", "A tabby cat looks into the camera"),
    ("coffee.png", "A cup of coffee on a wooden table"),
    ("rocket.jpg", "A rocket on its launch pad at night"),
    ("motorcycle_left.png", "A motorcycle in a garage"),
    ("ihc.png", "Stained tissue under a microscope"),
    ("hubble_deep_field.jpg", "Galaxies seen by the Hubble telescope"),
    ("retina.jpg", "The retina of an eye"),
    ("color.png", "A chart of colours"),
)
ANIMAL = "chelsea.png"
DOCUMENTS = (("page.png", "A printed page"), ("text.png", "Handwritten text"))


@dataclass(frozen=True)
class Corpus:
    """Where a built corpus lies, and how much of it there is."""

    pictures: Path
    facecaption: Path
    laion: Path
    truth: Path
    num_offers: int
    num_facecaption_rows: int
    num_laion_rows: int


def build(folder: Path, base_url: str, seed: int = 0) -> Corpus:
    """Write the whole corpus into `folder`, its URLs under `base_url`."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    offers = [*_good_offers(images, chance)]
    offers += _bad_offers(images, offers)
    num_facecaption_rows = write_facecaption(folder / "facecaption.parquet", offers, base_url, seed)
    num_laion_rows = write_laion(folder / "laion", offers, base_url, seed)
    write_truth(folder / "truth.csv", offers)
    return Corpus(
        images,
        folder / "facecaption.parquet",
        folder / "laion",
        folder / "truth.csv",
        len(offers),
        num_facecaption_rows,
        num_laion_rows,
    )


def _good_offers(folder: Path, chance: random.Random) -> Iterator[Offer]:
    """Make the pictures that arrive; a few by a detour, a few smaller than the metadata says."""
    detours = {3: Route.MOVED, 4: Route.MOVED, 5: Route.FLAKY, 6: Route.FLAKY}
    for number, (label, photo) in enumerate(_photos(chance)):
        image_format = SINGLE_FORMATS[number % len(SINGLE_FORMATS)] if label == "single" else "jpg"
        picture = _save(folder, f"{label}-{number:03d}", label, photo, image_format, chance)
        is_shrunk = number < NUM_SINGLE and number % 12 == 0
        yield Offer(detours.get(number, Route.IMAGES), picture.file, picture, crawl_scale=2 if is_shrunk else 1)


def _photos(chance: random.Random) -> Iterator[tuple[str, Photo]]:
    """Yield label and photo, in a fixed order."""
    people = (photos.hopper(), photos.astronaut())
    for number in range(NUM_SINGLE):
        side_px = SIDES_PX[number // 2 % len(SIDES_PX)]
        yield "single", photos.scaled_to(_portrait(people[number % 2], chance), side_px)
    for number, (above, below) in enumerate(MEMES * 2):
        yield "text", photos.captioned(photos.scaled_to(_portrait(people[number % 2], chance), 640), above, below)
    for number in range(6):
        yield "bw", photos.grey(_portrait(people[number % 2], chance))
    yield "bw", photos.cameraman()
    for number in range(5):
        yield "sepia", photos.sepia(_portrait(people[number % 2], chance))
    for number in range(8):
        members = [_portrait(people[(number + place) % 2], chance) for place in range(2 + number % 3)]
        yield "group", photos.side_by_side(members, 480)
    for number in range(6):
        yield "drawn", _cartoon(number, (512, 640, 768, 900)[number % 4])
    for number in range(4):
        yield "drawn", photos.pencilled(photos.scaled_to(_portrait(people[number % 2], chance), 640))
    for name, alt_text in FACELESS:
        yield "animal" if name == ANIMAL else "noface", photos.scaled_to(photos.faceless(name, alt_text), 600)
    for name, alt_text in DOCUMENTS:
        yield "text", photos.scaled_to(photos.faceless(name, alt_text), 640)
    for number in range(4):
        yield "masked", photos.scaled_to(photos.masked(_portrait(people[number % 2], chance)), 640)
    for number in range(4):
        yield "single", photos.scaled_to(_portrait(people[number % 2], chance), 160 + 8 * number)


def _cartoon(seed: int, side_px: int) -> Photo:
    left, top, right, bottom = (share * side_px for share in FACE_BOX)
    face = Face((left, top, right, bottom), "A drawn character with large eyes.")
    return Photo(draw_face(seed, side_px), (face,), f"drawn with Pillow, seed {seed}", "Cartoon character")


def _portrait(person: Photo, chance: random.Random) -> Photo:
    """Return a derivative of a portrait that differs in window, side and light."""
    photo = photos.cropped_around_face(person, chance)
    if chance.random() < 0.5:
        photo = photos.mirrored(photo)
    return photos.relit(photo, chance)


def _save(folder: Path, name: str, label: str, photo: Photo, image_format: str, chance: random.Random) -> Picture:
    """Encode a photo; every ninth JPEG of a person is stored on its side with the EXIF orientation that rights it."""
    image, made_from = photo.image, photo.made_from
    if image_format == "png" and max(image.size) > LARGEST_PNG_SIDE_PX:
        image_format = "jpg"
    file, quality = f"{name}.{image_format}", chance.randint(70, 95)
    options: dict[str, Any] = {"quality": quality} if image_format != "png" else {}
    if label == "single" and image_format == "jpg" and chance.random() < 1 / 9:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 6
        options["exif"] = exif
        stored, made_from = image.transpose(Image.Transpose.ROTATE_90), f"{made_from}, stored on its side"
    else:
        stored = image
    if label == "bw" and chance.random() < 0.5:
        stored = stored.convert("L")
    stored.save(folder / file, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[image_format], **options)
    return Picture(file, label, image.width, image.height, photo.faces, f"{made_from}, as {file}", photo.alt_text)


def _bad_offers(folder: Path, good: Sequence[Offer]) -> Iterator[Offer]:
    """Offer URLs that promise a picture and do not keep it; each promises what a picture of the corpus looks like."""
    promised = iter([offer.picture for offer in good if offer.picture.label == "single" and offer.picture.width >= 512])
    _draw_placeholder(folder / PLACEHOLDER)
    plan = (
        (Route.MISSING, 4),
        (Route.GONE, 1),
        (Route.BROKEN, 2),
        (Route.LOOP, 1),
        (Route.SHORT, 2),
        (Route.REFUSED, 2),
        (Route.PAGE, 1),
        (Route.EMPTY, 1),
        (Route.SLOW, 1),
        (Route.REMOVED, 3),
    )
    for route, count in plan:
        for number in range(count):
            picture = next(promised)
            suffix = picture.file.rpartition(".")[2] if route in (Route.SHORT, Route.REFUSED) else "jpg"
            file = picture.file if route in (Route.SHORT, Route.REFUSED) else f"{route}-{number}.{suffix}"
            yield Offer(route, file, picture)
    for number in range(2):
        picture = next(promised)
        whole = (folder / picture.file).read_bytes()
        file = f"cut-{number}.{picture.file.rpartition('.')[2]}"
        (folder / file).write_bytes(whole[: len(whole) * (2 - number) // 3])
        yield Offer(Route.IMAGES, file, picture)


def _draw_placeholder(path: Path) -> None:
    image = Image.new("RGB", (300, 200), (238, 238, 238))
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 4, 295, 195), outline=(150, 150, 150), width=3)
    draw.line((4, 4, 295, 195), fill=(190, 60, 60), width=6)
    draw.line((4, 195, 295, 4), fill=(190, 60, 60), width=6)
    image.save(path)
