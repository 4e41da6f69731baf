"""The tables of a recipe, one per stage, kept apart from the stages so that a recipe loads without their libraries."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from filters.base import Settings, TableSettings


class GateSettings(TableSettings):
    """What metadata alone must say of an image before it is downloaded; a gate that is not set lets everything pass.

    Where no row at all has a value for a gate, `rank` stops unless there is a waiver. Where some have, a row without
    one passes and is counted; only the gate of safety (`nsfw`, `max_punsafe`) leaves it out, as `nsfw_unknown`.
    The word `NSFW` is left out wherever that gate is set at all, but for `nsfw = []` with `max_punsafe = 1.0`.
    """

    LATER = frozenset({"own"})

    min_side_px: int | None = Field(default=None, ge=1)
    """Shorter side as crawled."""
    max_aspect: float | None = Field(default=None, ge=1.0)
    """Longer side over shorter side."""
    min_face_side_px: int | None = Field(default=None, ge=1)
    """Shorter side of the largest known face box."""
    min_num_faces: int | None = Field(default=None, ge=0)
    """Faces by the detections, else boxes by FaceCaption."""
    max_num_faces: int | None = Field(default=None, ge=1)
    """Faces by the detections, else boxes by FaceCaption."""
    nsfw: tuple[str, ...] = ("NSFW",)
    """Words on safety that are left out: `NSFW`, `UNSURE`, `UNLIKELY`; what tables write is read as one of these, and
    a value that is none of them is left out in any case."""
    max_punsafe: float | None = Field(default=0.5, ge=0.0, le=1.0)
    """LAION's probability of being unsafe."""
    max_pwatermark: float | None = Field(default=None, ge=0.0, le=1.0)
    """LAION's probability of a watermark."""
    own: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Gates that installed distributions bring under the entry point `facecaptionhq.gates`, by name, each with its own
    settings; they are asked after all others."""


class RankSettings(Settings):
    """How the images worth fetching are chosen."""

    top: int | None = Field(default=None, ge=1)
    """How many images to keep; none keeps all that can be ranked."""
    key: Literal["image_area", "face_side", "face_area", "mix"] = "image_area"
    """What ranks first: `image_area` is WIDTH x HEIGHT as LAION recorded them, the published rule; `face_side` and
    `face_area` are the shorter side and the area of the largest known face box in pixels; `mix` is the geometric mean
    of the face's side and the side of a square as large as the image."""
    rows_per_part: int = Field(default=10_000, ge=1)
    """Rows of one part of the selection; one part becomes one fetched shard."""
    gates: GateSettings = GateSettings()


class FetchSettings(TableSettings):
    """How images are downloaded."""

    LATER = frozenset({"part_deadline_s", "content_usage", "engine"})

    engine: Literal["direct", "img2dataset"] = "direct"
    """What hands out the URLs and stores what arrives: threads of our own, or img2dataset's downloader. Both ask
    through the same reader with the same guards; changes no byte of the output."""
    timeout_s: float = Field(default=10.0, gt=0.0, le=600.0)
    """Seconds that a connection may stay silent."""
    deadline_s: float = Field(default=15.0, gt=0.0, le=3600.0)
    """Seconds that one URL may take in all, its redirects included; only the resolver's own waiting comes on top."""
    grace_s: float = Field(default=3.0, ge=0.0)
    """Seconds after the first byte from which a server must be as fast as `min_bytes_per_s`."""
    min_bytes_per_s: float = Field(default=2000.0, ge=0.0)
    """Bytes per second, since the first byte, below which a server is given up."""
    max_bytes: int = Field(default=32 << 20, ge=1)
    """Size of a picture in bytes, after any compression of the transport is undone."""
    max_redirects: int = Field(default=5, ge=0, le=20)
    """How many redirects are followed."""
    num_retries: int = Field(default=2, ge=0, le=10)
    """How often a URL whose failure may pass (dns, timeout, 408, 429, 5xx) is asked for again, in later passes over the
    part. A URL that was not asked because its host wanted silence does not count as asked."""
    retry_wait_s: float = Field(default=10.0, ge=0.0, le=3600.0)
    """Seconds before each later pass, and for a host that says `slow down` but not for how long."""
    part_deadline_s: float = Field(default=7200.0, gt=0.0, le=604_800.0)
    """Seconds after which no further URL of a part is asked for; the rest is recorded as `part_deadline`."""
    max_retry_after_s: float = Field(default=60.0, ge=0.0, le=3600.0)
    """The longest `Retry-After` that is waited for."""
    num_host_connections: int = Field(default=4, ge=1, le=1024)
    """Connections to one host at a time, shared out among the workers; each worker has at least one."""
    num_threads: int = Field(default=32, ge=1, le=1024)
    """Downloads at a time in each worker; changes no byte of the output."""
    max_unreachable_fraction: float = Field(default=0.9, gt=0.0, le=1.0)
    """Share of a part of at least 100 rows that may be unreachable (dns, connection, timeout); beyond it our own way to
    the net is at fault, and the part fails, to be fetched again."""
    placeholder_hosts: int = Field(default=3, ge=2)
    """A picture that this many hosts serve is a placeholder, if most of its URLs promised another size."""
    placeholder_urls: int = Field(default=10, ge=2)
    """The same for this many URLs of any hosts, since one host may serve its own placeholder."""
    user_agent_token: str = Field(default="facecaptionhq", pattern=r"^[a-z0-9-]+$")
    """How the downloader names itself; an `X-Robots-Tag` may address it by this name."""
    opt_out_directives: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    """Values of the header `X-Robots-Tag` that forbid us a picture; `none` means `noindex`, and `noml` `noai`."""
    content_usage: Literal["aipref-06", "off"] = "aipref-06"
    """Version of the vocabulary of usage preferences (`Content-Usage` of responses and in robots.txt) that is heeded:
    draft-ietf-aipref-vocab-06, or none."""


Format = Literal["jpg", "png", "webp", "gif", "avif"]
DEFAULT_FORMATS: tuple[Format, ...] = ("jpg", "png", "webp")
"""The formats that are admitted where a recipe does not say; each is the suffix of its members."""


EVERY_FORMAT: tuple[Format, ...] = (*DEFAULT_FORMATS, "gif", "avif")
"""The formats that a recipe may admit."""


class DecodeLimits(TableSettings):
    """What a file may be, and may claim before any of its pixels are decoded."""

    LATER = frozenset({"formats", "animated"})

    max_bytes: int = Field(default=32 << 20, ge=1)
    """Size of the file in bytes."""
    max_pixels: int = Field(default=64_000_000, ge=1, le=89_478_485)
    """Width times height, in pixels."""
    max_aspect: float = Field(default=20.0, ge=1.0)
    """Longer side over shorter side."""
    min_side_px: int = Field(default=16, ge=1)
    """Shorter side, in pixels."""
    formats: tuple[Format, ...] = Field(default=DEFAULT_FORMATS, min_length=1)
    """Formats that are admitted; others are refused by name. Told only where it is not the default."""
    animated: Literal["refuse", "first_frame"] = "refuse"
    """What becomes of an animation; `first_frame` takes the picture that a reader without animation shows. Told only
    where it is not the default."""

    def admitting_all(self) -> "DecodeLimits":
        """Return the same limits for pictures that were admitted before: of every format, and first frames."""
        return self.model_copy(update={"formats": EVERY_FORMAT, "animated": "first_frame"})

    @field_validator("formats")
    @classmethod
    def _in_one_order(cls, formats: tuple[Format, ...]) -> tuple[Format, ...]:
        """The order in which a recipe names formats means nothing, so it changes no digest."""
        return tuple(name for name in EVERY_FORMAT if name in formats)


class CurateSettings(TableSettings):
    """How pictures are measured."""

    LATER = frozenset({"reservations", "device_server"})

    measure: Literal["needed", "all"] = "needed"
    """`needed` stops measuring a picture once its verdict is certain; `all` measures everything, for calibration."""
    screens: Literal["on", "off"] = "on"
    """Whether the filters' screens are asked first; `off` is the plain path, where every filter measures for itself."""
    order: tuple[str, ...] = ()
    """Execution order of the filters, cheapest first; the declared order where empty. It may name screens; one that it
    leaves out is asked directly before its filter. Never changes who is kept."""
    shadow_fraction: float = Field(default=0.005, ge=0.0, le=1.0)
    """Share of the rejected pictures, chosen by uid, that are measured all the same until every keep range is decided:
    what loosening a threshold would admit is forecast from them."""
    num_batch_samples: int = Field(default=4, ge=1, le=4096)
    """Pictures that are decoded and handed to a filter together; evidence does not depend on it."""
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """Where the detectors run: `cpu`, `cuda` or `cuda:N`."""
    device_server: bool = False
    """Whether one process per device and machine runs the networks of all workers, in batches, so that the processes
    that decode need no device and no network of their own; needs `isolate`. Told only where it is true."""
    num_gpus: float = Field(default=0.0, ge=0.0)
    """GPUs that each shard's Ray task asks for; fractions share a GPU between tasks."""
    reservations: Literal["respect", "ignore"] = "respect"
    """Whether a picture whose own metadata reserves it from training is rejected (`opted_out`); `ignore` is for whoever
    holds the rights. `fetch` always respects them."""
    isolate: bool = True
    """Whether pictures are decoded and measured in a process of their own, so that none can take its worker along.
    The limits below hold in there, and in `fetch` too; whom they stop is quarantined by name."""
    max_decode_s: float = Field(default=5.0, gt=0.0, le=3600.0)
    """Seconds of CPU time that decoding one picture may take."""
    max_measure_s: float = Field(default=60.0, gt=0.0, le=86_400.0)
    """Seconds of wall time that decoding and measuring one picture may take, beside what a device server takes; up to
    eight of a batch share them, and a batch that needs longer is measured again one by one."""
    max_measure_mib: int = Field(default=4096, ge=64)
    """Memory in MiB that pictures in work may take beside the loaded detectors; on `device = "cpu"` or with a
    `device_server` only, since a GPU's driver reserves address space as it likes."""
    max_quarantined: int = Field(default=3, ge=0)
    """Quarantined samples that a shard may have whatever its size."""
    max_quarantined_fraction: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of a shard's samples that may be quarantined; beyond both, the installation is at fault, and the shard
    fails."""

    @property
    def bounds_memory(self) -> bool:
        """Whether `max_measure_mib` holds: no driver of a device is loaded where pictures are measured."""
        return self.device == "cpu" or self.device_server

    @model_validator(mode="after")
    def _server_needs_a_cell(self) -> Self:
        if self.device_server and not self.isolate:
            raise ValueError("device_server: needs isolate = true: a cell that loses its server is replaced by another")
        return self


class CaptionSettings(Settings):
    """Which captions are fit to train on; without this table of the recipe all are, and nothing is said of them.

    `curate` then says of each caption what it is like (column `captions`), and `pack` leaves out whoever has none that
    is fit, by the reason of the first (`caption_short`, ...), and chooses among those that are.
    """

    min_words: int = Field(default=3, ge=0)
    """Fewer words or numbers are `caption_short`."""
    max_words: int | None = Field(default=None, ge=1)
    """More are `caption_long`."""
    languages: tuple[str, ...] = ("en", "unknown")
    """Others are `caption_language`; `unknown` is a text in Latin script that says too little; empty takes all."""
    refuse_boilerplate: bool = True
    """What agencies, galleries and cameras write, and file names, are `caption_boilerplate`."""
    refuse_personal_data: bool = True
    """Texts with an e-mail address or a telephone number are `caption_personal_data`."""
    max_repeats: int | None = Field(default=None, ge=1)
    """A text that more of the pictures that would be packed share is `caption_repeated`, and packed for nobody."""
    prefer: tuple[Literal["facecaption", "laion", "text"], ...] = ("facecaption", "laion", "text")
    """Which source's caption is taken of several that are fit where no box is bound to a face, best first; where boxes
    are, the best match is taken."""
    enough_words: int = Field(default=40, ge=1)
    """Of two captions of one source that which says more is better, up to this many words."""

    @field_validator("prefer")
    @classmethod
    def _names_each_source_once(cls, prefer: tuple[str, ...]) -> tuple[str, ...]:
        if sorted(prefer) != ["facecaption", "laion", "text"]:
            raise ValueError("facecaption, laion and text are wanted, each once, best first")
        return prefer


class PackSettings(TableSettings):
    """How the final shards are cut."""

    LATER = frozenset({"max_shard_bytes", "shuffle_seed", "near_duplicate_bits", "near_duplicate_fine_bits"})

    max_shard_bytes: int = Field(default=1 << 30, ge=1)
    """A final shard ends before the sample with which it would be larger, by the sizes of the fetched pictures."""
    num_shard_samples: int = Field(default=100_000, ge=1, le=100_000)
    """Most samples of a final shard; the last one holds the rest."""
    shuffle_seed: int = Field(default=0, ge=0)
    """Decides the order of the packed samples."""
    near_duplicate_bits: int | None = Field(default=None, ge=0, le=12)
    """Two pictures whose pHashes (filter `look`) differ in at most this many of 64 bits, and in few of 256, are nearly
    one: that with the largest face is packed. None packs both."""
    near_duplicate_fine_bits: int = Field(default=28, ge=0, le=256)
    """In how many bits of the fine pHash, of 256, such two may differ."""
    metadata: Literal["strip", "keep"] = "strip"
    """`strip` losslessly removes all metadata but orientation and ICC, and trailing bytes; `keep` keeps every byte."""
    min_caption_box_iou: float = Field(default=0.5, gt=0.0, le=1.0)
    """A FaceCaption box is bound to the detected face of greatest IoU, if that reaches this."""
    max_caption_characters: int = Field(default=2000, ge=1)
    """Captions are cut here, after control characters are removed and Unicode is composed (NFC)."""
