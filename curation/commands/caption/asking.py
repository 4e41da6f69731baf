"""Several pictures in question at once, and every answer in the order of the pictures."""

import io
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
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
GRACE_S = 1.0
"""How long replies that are under way are waited for where the work is broken off."""
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Replied:
    """What is to be stored of one picture."""

    columns: Row
    """Its reply, as a row holds it."""
    fault: str | None
    """Why there is no reply."""
    is_new: bool
    """Whether it was asked about for this state of the shard, by this attempt or by an earlier one."""


Keep = Callable[[int, Row], None]
"""Takes a reply as it comes: the number of its picture, and the columns of its row."""


def in_order(
    pictures: Iterable[Replied | bytes | None], asker: Asker, settings: CaptioningSettings, keep: Keep
) -> Generator[Replied]:
    """Yield an answer for each picture; what is a reply already is passed on, and nobody is asked.

    Replies are kept as they come, in whatever order. Where the work is broken off, those under way have `GRACE_S` to
    come; `asker` is then to be closed, which ends the others.

    Raises:
        NobodyThereError: whoever is asked does not answer us.
    """
    pool, under_way = ThreadPoolExecutor(asker.num_at_once), _UnderWay(settings, keep)
    waiting: deque[Replied | Future[Reply]] = deque()
    try:
        for number, picture in enumerate(pictures):
            if isinstance(picture, bytes):
                waiting.append(under_way.expect(pool.submit(asker.ask, picture), number))
            else:
                waiting.append(_new(Reply(fault=UNREADABLE), settings) if picture is None else picture)
            under_way.take(0.0)
            while len(waiting) > NUM_WAITING * asker.num_at_once:
                yield under_way.answer(waiting.popleft())
        while waiting:
            yield under_way.answer(waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        under_way.end()


class _UnderWay:
    """Questions that were asked, and their answers until their turn comes."""

    def __init__(self, settings: CaptioningSettings, keep: Keep) -> None:
        self._settings, self._keep = settings, keep
        self._asked: dict[Future[Reply], int] = {}
        self._came: dict[Future[Reply], Replied] = {}

    def expect(self, future: Future[Reply], number: int) -> Future[Reply]:
        """Wait from now on for the answer about the picture of this number."""
        self._asked[future] = number
        return future

    def answer(self, waiting: Replied | Future[Reply]) -> Replied:
        """Return an answer, once it is there."""
        if isinstance(waiting, Replied):
            return waiting
        while waiting not in self._came:
            self.take(None)
        return self._came.pop(waiting)

    def take(self, seconds: float | None, until: str = FIRST_COMPLETED) -> None:
        """Keep what has come, after waiting for so long at most."""
        done = wait(self._asked, seconds, until).done
        refusals = [error for future in done if (error := future.exception()) is not None]
        for future in done:
            number = self._asked.pop(future)
            if future.exception() is None:
                replied = self._came[future] = _new(future.result(), self._settings)
                if replied.fault is None:
                    self._keep(number, replied.columns)
        if refusals:
            raise refusals[0]

    def end(self) -> None:
        """Keep what comes soon; whatever is wrong now has been said already."""
        self._asked = {future: number for future, number in self._asked.items() if not future.cancelled()}
        with suppress(Exception):
            self.take(GRACE_S, ALL_COMPLETED)


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


def _new(reply: Reply, settings: CaptioningSettings) -> Replied:
    return Replied(reply_columns(reply, settings), reply.fault, is_new=True)
