"""What can be said of a caption without its picture."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.commands.pack.caption_choice import fault_of
from curation.dataset.caption_facts import facts_of
from curation.dataset.captions import clean_caption
from curation.recipe.recipe import load_recipe


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A young woman with long blonde hair is wearing a red dress.", "en"),
        ("Die Schauspielerin ist auf dem roten Teppich mit einer Tasche", "de"),
        ("Le portrait de la reine dans le palais", "fr"),
        ("La actriz en la alfombra roja con su hijo", "es"),
        ("Un ritratto della regina con il figlio nel palazzo", "it"),
        ("Een portret van de koningin met het kind", "nl"),
        ("Портрет мужчины в шляпе", "cyrillic"),
        ("Uma mulher com um chapéu vermelho", "pt"),
        ("A mulher não está no jardim com o filho", "pt"),
        ("Kobieta w kapeluszu jest na plaży i nie śpi", "pl"),
        ("Frau mit Hut und Bart", "de"),
        ("Robin van Persie en zijn vrouw zijn niet op het feest", "nl"),
        ("Ursula von der Leyen spricht mit der Presse und wird gehört", "de"),
        ("美しい女性", "cjk"),
        ("صورة امرأة", "arabic"),
        ("John Smith portrait", "unknown"),
        ("José Ángel Muñoz", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_language_is_told_by_script_or_common_words_and_names_have_none(text: str, language: str) -> None:
    assert facts_of(text, "text").language == language


@pytest.mark.parametrize(
    ("text", "has_email", "has_phone"),
    [
        ("write to jane.doe+x@mail.example.org", True, False),
        ("jane (at) example.com", True, False),
        ("+44 20 7946 2012", False, True),
        ("612 345 678", False, True),
        ("(202) 555 0100", False, True),
        ("Call +49 (0)30 123 45678 now", False, True),
        ("tel 555-123-4567", False, True),
        ("born 1987-03-12, photographed 12.03.2020 - 14.05.2021", False, False),
        ("campaign 2008-2012 with 1,234,567,890 votes", False, False),
        ("1920x1080, 300 dpi, 24-70mm f/2.8", False, False),
        ("@jane at the gala", False, False),
        ("Photo 20191231 235959", False, False),
        ("women of 25 30 35 40 45", False, False),
    ],
)
def test_addresses_and_numbers_that_can_be_dialled_are_personal_and_dates_are_not(
    text: str, has_email: bool, has_phone: bool
) -> None:
    facts = facts_of(text, "text")
    assert (facts.has_email, facts.has_phone) == (has_email, has_phone)


def test_no_typical_caption_is_refused_by_the_strict_recipe() -> None:
    """A hundred written for this test: alt texts, sentences on faces, names with particles, years, numbers."""
    texts = (Path(__file__).parent / "typical_captions.txt").read_text(encoding="utf-8").splitlines()
    settings = load_recipe("facecaptionhq-strict").file.captions
    assert settings is not None and len(texts) == 100
    refused = {text: fault for text in texts if (fault := fault_of(facts_of(text, "laion"), settings)) is not None}
    assert refused == {}


@pytest.mark.parametrize(
    "text", ["portrait of a man stock photo", "IMG_1234.JPG", "ava-smith.png", "Image may contain: person"]
)
def test_what_agencies_and_cameras_write_is_boilerplate(text: str) -> None:
    assert facts_of(text, "laion").is_boilerplate


def test_a_description_is_no_boilerplate() -> None:
    assert not facts_of("A man who stocks shelves smiles for the photo", "laion").is_boilerplate


def test_the_digest_is_of_what_is_said_not_of_how_it_is_written() -> None:
    one, same, other = (
        facts_of(text, "text").digest for text in ("A man, smiling!", "a  man - SMILING", "A man smiled")
    )
    assert one == same != other and len(one) == 16


@given(st.text(max_size=200))
def test_any_text_has_facts(text: str) -> None:
    clean = clean_caption(text, 2000)
    facts = facts_of(clean, "text")
    assert facts.num_characters == len(clean) and facts.num_words >= 0
