"""What can be said of a caption without knowing the picture: its length, its language, what it gives away.

Facts, not verdicts: `[captions]` of a recipe says which of them keep a caption from being trained on. Everything here
is counting; no model is asked. Languages are told by their script, and those in Latin script by their commonest words,
so a name or three nouns are of no language.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from curation.dataset.captions import Caption, clean_caption

UNKNOWN_LANGUAGE = "unknown"
NUM_DIGEST_BYTES = 8
MIN_FOREIGN_LETTERS = 0.3
"""Share of the letters in one script other than Latin from which that script is the language."""
_WORDS = {
    "en": """the of and to is in that it for was on are as with his her he she they at be this have from by or an who
             wearing has not but what all were when we there can their which do will a i its my our your him them me
             so no one two who had been while into some out up after very""",
    "de": """der die und das den von zu mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat
             dass sie nach wird bei einer um am sind noch wie einem über einen zum war haben nur oder vor""",
    "fr": """de la le et les des en un du une que est pour qui dans par plus pas au sur se ne avec ce sont il elle aux
             son sa ses cette leur ou mais nous vous été""",
    "es": """de la que el en y los se del las un por con una su para es al lo como más pero sus le ya este sí porque
             esta entre cuando muy sin sobre también hasta hay donde""",
    "it": """di che è la il un per non in una sono mi si lo ha le con come del della da al dei più gli nel alla anche
             questo ma sua suo delle""",
    "pt": """de que não o e a do da em um para com uma os no se na por mais as dos como mas foi ao das tem seu sua ou
             ser quando muito nos já está também pelo pela""",
    "nl": """de het een van en in is dat op te zijn met voor niet aan er om ook als dan maar bij uit nog naar heeft ze
             zij hij wordt deze door over""",
    "pl": """i w na z do się nie jest to że o jak po za od przez dla są oraz ale był była jego jej ich przy""",
}
COMMON_WORDS: Mapping[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _WORDS.items()}
"""Language -> words that nearly every sentence of it has."""
_IN_NAMES = """al am bin come con dan das de del della delle dem den der des di die do dos du el em en est ha hat het la
             las le les lo los on or os per plus pour sale sin son sur te ten ter to un une van von war zu zum zur"""
NO_PROOF = COMMON_WORDS["en"] | frozenset(_IN_NAMES.split())
"""Words that are English too, or stand in the names of people and places: they tell no other language by themselves."""
MIN_MARGIN = 2
"""By how many different common words another language must lead over English."""
BOILERPLATE = re.compile(
    r"\b(?:stock (?:photo|image|picture|vector|footage|illustration)s?|royalty[- ]free|image may contain|no caption"
    r"|click (?:here|to (?:enlarge|view|zoom))|getty images|shutterstock|alamy|istock(?:photo)?|dreamstime"
    r"|depositphotos|profile (?:photo|picture|image) (?:of|for)|avatar (?:of|for)|view full size"
    r"|load(?:ing)? image|placeholder|thumbnail|untitled|your browser does not support|all rights reserved)\b"
    r"|^\s*(?:img|dsc|dscn|dscf|pict?|image|photo|screenshot|file)[-_ ]?\d*\s*(?:\.(?:jpe?g|png|webp|gif))?\s*$"
    r"|^\S+\.(?:jpe?g|png|webp|gif|bmp|tiff?)$",
    re.IGNORECASE,
)
"""What agencies, galleries and cameras write in place of a description."""
EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+\s?(?:@|\(at\)|\[at\])\s?[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}", re.IGNORECASE)
"""Looked for at the beginning of a word alone, so that a long one takes no longer than its letters."""
PHONE = re.compile(r"(?<![\w.,/-])(?:\+|00)?(?:\(?\d{2,5}\)?[ .\-/]?){2,5}\d{2,4}(?![\w,/-]|\.\d)")
MIN_PHONE_DIGITS, MAX_PHONE_DIGITS = 9, 15
"""Of a number with its area code; ITU-T E.164 allows no more than 15."""
NO_PHONE = re.compile(
    r"(?:1[5-9]|20)\d\d(?:[ ./-]\d+)+|\d{1,3}(?:[ .]\d{3})*[ .]000|97[89](?:[ -]?\d){10}"
    r"|\d+(?:[ ./-](?:1[5-9]|20)\d\d){2,}|[1-9]\d(?: \d\d){3,}|(?:19|20)\d{6}[ .-]?\d{4,6}"
)
"""Rows of years, inventory numbers (which begin with one), times of cameras, rows of sizes, round thousands, ISBNs."""
DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[-./]\d{1,2}[-./]\d{1,2}|(?:0?[1-9]|[12]\d|3[01])[-./](?:0?[1-9]|1[0-2])[-./](?:19|20)?\d\d"
    r"|(?:1[5-9]|20)\d\d\s?[-/]\s?(?:1[5-9]|20)\d\d)(?!\d)"
)
"""Days, written in any order, and spans of years."""
SCRIPTS = ("CYRILLIC", "GREEK", "ARABIC", "HEBREW", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "DEVANAGARI",
           "BENGALI", "TAMIL", "TELUGU", "GEORGIAN", "ARMENIAN", "ETHIOPIC", "KHMER", "LAO", "MYANMAR")  # fmt: skip


@dataclass(frozen=True)
class CaptionFacts:
    """One caption, without its text."""

    source: str
    """`facecaption`, `laion` or `text`."""
    digest: str
    """16 hex digits, of the text without case, punctuation and spacing: equal where captions say the same."""
    num_characters: int
    num_words: int
    language: str
    """ISO 639-1 code; or the script in lower case where that is not Latin; or `unknown`, where too little is said."""
    is_boilerplate: bool
    """What agencies, galleries and cameras write, or a file's name."""
    has_email: bool
    has_phone: bool


def facts_of(text: str, source: str) -> CaptionFacts:
    """Return what can be said of a caption, which is clean already (`captions.clean_caption`)."""
    words = re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+", text.casefold())
    return CaptionFacts(
        source=source,
        digest=hashlib.sha256(" ".join(words).encode()).hexdigest()[: 2 * NUM_DIGEST_BYTES],
        num_characters=len(text),
        num_words=len(words),
        language=language_of(text, words),
        is_boilerplate=BOILERPLATE.search(text) is not None,
        has_email=EMAIL.search(text) is not None,
        has_phone=has_phone(text),
    )


def facts_of_all(captions: Iterable[Caption], max_characters: int) -> tuple[CaptionFacts, ...]:
    """Return what can be said of each caption, cut and cleaned as it would be packed."""
    return tuple(facts_of(clean_caption(caption.text, max_characters), caption.source) for caption in captions)


def language_of(text: str, words: Sequence[str]) -> str:
    """Return the language of a text: its script, or in Latin script that which has most of its common words.

    Words count once each. Of a text with a single common word, or with as many of another language, nothing is known.
    Another language than English leads over it by `MIN_MARGIN`, with a word of two letters or more that is no English
    word and stands in no names.
    """
    letters = [character for character in text if character.isalpha()]
    foreign = Counter(script for letter in letters if ord(letter) > 0x24F for script in (_script(letter),) if script)
    if foreign:
        script, number = foreign.most_common(1)[0]
        if number >= MIN_FOREIGN_LETTERS * len(letters):
            return script.lower()
    hits = {name: common.intersection(words) for name, common in COMMON_WORDS.items()}
    (first, most), (_, second) = Counter({name: len(found) for name, found in hits.items()}).most_common(2)
    if most < 2 or most == second:
        return UNKNOWN_LANGUAGE
    if first == "en":
        return first
    is_proven = any(len(word) > 1 for word in hits[first] - NO_PROOF)
    return first if is_proven and most >= len(hits["en"] - hits[first]) + MIN_MARGIN else UNKNOWN_LANGUAGE


def has_phone(text: str) -> bool:
    """Return whether a text has what can be dialled: 9 to 15 digits in groups, but no dates, years or thousands."""
    for found in PHONE.finditer(DATE.sub(" ", text)):
        if NO_PHONE.fullmatch(found.group().strip()):
            continue
        digits = sum(character.isdigit() for character in found.group())
        is_grouped = any(not character.isdigit() for character in found.group().strip())
        if MIN_PHONE_DIGITS <= digits <= MAX_PHONE_DIGITS and is_grouped:
            return True
    return False


def _script(letter: str) -> str | None:
    name = unicodedata.name(letter, "")
    return next((script for script in SCRIPTS if name.startswith(script)), None)
