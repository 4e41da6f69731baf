import pytest

from curation.images.signatures import NAMES, name_of
from tests.curation.images.strangers import BEGINNINGS, NO_NAME, OTHERS
from tests.pictures import seeded_pictures


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_file_that_is_called_so(name: str) -> None:
    assert name_of(BEGINNINGS[name]) == name


@pytest.mark.parametrize(("name", "beginning"), OTHERS)
def test_the_variants_of_a_format_are_called_as_it_is(name: str, beginning: bytes) -> None:
    assert name_of(beginning) == name


@pytest.mark.parametrize("beginning", NO_NAME)
def test_bytes_that_are_like_nothing_have_no_name(beginning: bytes) -> None:
    assert name_of(beginning) is None


def test_a_file_cut_anywhere_is_named_or_not_but_never_an_error() -> None:
    for whole in (*BEGINNINGS.values(), *(beginning for _, beginning in OTHERS), *seeded_pictures().values()):
        for length in range(min(len(whole), 400)):
            assert name_of(whole[:length]) in {None, *NAMES}


def test_a_text_made_to_be_matched_in_countless_ways_is_told_all_the_same() -> None:
    assert name_of(b"<!---->" * 140 + b"<x") == "xml"
    assert name_of(b"P5 " + b"#\n \n" * 200) == "text"
