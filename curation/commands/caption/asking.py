"""Several pictures in question at once, and every answer in the order of the pictures."""

import io
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from curation.commands.caption.reply import Asker, Reply
from curation.commands.caption.rows import Row, reply_columns
from curation.images.decode import UnreadableError
from curation.images.open_picture import open_picture
from curation.recipe.captioning import CaptioningSettings
from curation.recipe.settings import DecodeLimits

JPEG_QUALITY = 92
NUM_WAITING = 2
"""Pictures that are ready, for each that is in question."""
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Replied:
    """What is to be stored of one picture."""

    columns: Row
    """Its reply, as a row holds it."""
    fault: str | None
    """Why there is no reply."""
    is_new: bool
    """Whether it was asked about just now."""


def in_order(pictures: Iterable[Row | bytes | None], asker: Asker, settings: CaptioningSettings) -> Generator[Replied]:
    """Yield an answer for each picture; what is a reply already is passed on, and nobody is asked.

    Raises:
        NobodyThereError: whoever is asked does not answer us.
    """
    pool = ThreadPoolExecutor(asker.num_at_once)
    waiting: deque[Replied | Future[Reply]] = deque()
    try:
        for picture in pictures:
            if isinstance(picture, bytes):
                waiting.append(pool.submit(asker.ask, picture))
            elif picture is None:
                waiting.append(_new(Reply(fault=UNREADABLE), settings))
            else:
                waiting.append(Replied(picture, None, is_new=False))
            while len(waiting) > NUM_WAITING * asker.num_at_once:
                yield _answer(waiting.popleft(), settings)
        while waiting:
            yield _answer(waiting.popleft(), settings)
    finally:
        pool.shutdown(cancel_futures=True)


def shown_of(image_bytes: bytes, max_side_px: int, limits: DecodeLimits) -> bytes | None:
    """Return what is shown of a picture: upright, sRGB, no larger, a JPEG without metadata; None if unreadable."""
    try:
        pixels = open_picture(image_bytes, limits)
    except UnreadableError:
        return None
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _answer(waiting: Replied | Future[Reply], settings: CaptioningSettings) -> Replied:
    return waiting if isinstance(waiting, Replied) else _new(waiting.result(), settings)


def _new(reply: Reply, settings: CaptioningSettings) -> Replied:
    return Replied(reply_columns(reply, settings), reply.fault, is_new=True)
