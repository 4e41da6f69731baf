"""What a picture file says of itself before any decoder sees it, and the same picture without its metadata.

Pure functions on bytes, with walkers of our own for every format that is read; nothing in here decodes a pixel.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from curation.images.containers import avif, gif, jpeg, png, webp
from curation.images.containers.parts import Container, ContainerError, ImageFormat, Part
from curation.recipe.settings import DEFAULT_FORMATS

__all__ = [
    "WALKERS",
    "Container",
    "ContainerError",
    "ImageFormat",
    "Part",
    "image_end",
    "read_container",
    "sniff_format",
    "strip_container",
    "strip_metadata",
]


class Walker(Protocol):
    """What the module of a format offers."""

    @property
    def PILLOW_NAME(self) -> str:  # noqa: N802  a constant of the module
        """What Pillow calls the format."""
        ...

    def announces(self, image_bytes: bytes) -> bool:
        """Whether the first bytes are those of this format."""
        ...

    def read(self, image_bytes: bytes) -> Container:
        """Walk a file; see `read_container`."""
        ...

    def strip(self, container: Container) -> bytes:
        """Rebuild a whole file; see `strip_container`."""
        ...


WALKERS: Mapping[ImageFormat, Walker] = {"jpg": jpeg, "png": png, "webp": webp, "gif": gif, "avif": avif}
"""Every format that is read here, by the suffix of its members; another one is a module and a row."""


def sniff_format(image_bytes: bytes, formats: Collection[ImageFormat] = DEFAULT_FORMATS) -> ImageFormat | None:
    """Return which of these formats the first bytes announce; names and suffixes are never asked."""
    return next((name for name in WALKERS if name in formats and WALKERS[name].announces(image_bytes)), None)


def read_container(image_bytes: bytes, image_format: ImageFormat) -> Container:
    """Walk a file up to the end of its first picture.

    Raises:
        ContainerError: a segment, chunk or box breaks the container's rules, or a whole file holds no picture. A file
            that is merely cut raises nothing; its `end` is None.
    """
    container = WALKERS[image_format].read(image_bytes)
    if container.end is not None and container.size is None:
        raise ContainerError(f"{image_format}: the file is whole but holds no picture")
    return container


def image_end(image_bytes: bytes, image_format: ImageFormat) -> int | None:
    """Return the offset just after the first picture (EOI, IEND, RIFF chunk), None where the file is cut before it.

    Raises:
        ContainerError: the container cannot be walked.
    """
    return read_container(image_bytes, image_format).end


def strip_metadata(image_bytes: bytes, image_format: ImageFormat) -> bytes:
    """Return the picture with its coded pixels untouched and all metadata gone but orientation and ICC profile.

    Bytes after the picture go too, and so do the further pictures of an MPO and all frames of an animation but the
    first. An orientation other than 1 stays as an EXIF block that holds nothing else (in an AVIF, as it was told).
    Stripping twice changes nothing more.

    Raises:
        ContainerError: the container cannot be walked or is cut, or no first frame can stand alone.
    """
    return strip_container(read_container(image_bytes, image_format))


def strip_container(container: Container) -> bytes:
    """Do what `strip_metadata` does to a container that has been walked already."""
    if container.end is None:
        raise ContainerError(f"{container.format}: the file is cut before the end of its picture")
    return WALKERS[container.format].strip(container)
