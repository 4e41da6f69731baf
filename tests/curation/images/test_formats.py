"""What one place says of image formats, the others must know."""

from curation.dataset.tar import IMAGE_SUFFIXES
from curation.images.containers import WALKERS


def test_a_picture_of_every_format_that_is_read_is_known_as_one_in_a_tar() -> None:
    assert set(WALKERS) <= IMAGE_SUFFIXES
