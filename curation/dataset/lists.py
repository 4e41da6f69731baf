"""Lists that people write: takedowns, blocklists, hashes; one entry a line, read by one set of rules.

A list is UTF-8, with a byte order mark or without, its lines end as they like. Blank lines and remarks (`#` at the
beginning of a line or after a blank) say nothing; quotes, angle brackets and blanks around an entry are no part of it.
What an entry is, its form tells, or a prefix such as `sha256:`; a line that is nothing is an error with its number.
So is one that holds more than a URL: a blank or a comma may be part of one; where it looks like its end, `url:` before
all of it says that it is not.
"""

import codecs
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from curation.dataset.sample import normalise_url, uid_of_url
from curation.dataset.urls import BLANKS, address_of, domain_of, is_address, with_scheme
from curation.errors import UsageError

HEX_DIGITS = {"uid": 32, "sha256": 64, "md5": 32, "phash": 16}
BARE_HEX = ("uid", "sha256", "md5")
"""What hex digits of the right number are taken for; of two kinds of one length, the first that a list takes."""
KINDS = ("url", "key", "domain", *HEX_DIGITS)
NAMES = {"url": "URL", "uid": "uid (32 hex digits)", "sha256": "sha256 (64 hex digits)", "phash": "phash:16 hex digits"}
OTHER_MARKS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16",
               codecs.BOM_UTF16_BE: "UTF-16"}  # fmt: skip
"""Byte order marks of what is not UTF-8; those of UTF-32 first, since they begin as those of UTF-16 do."""
QUOTES = {'"': '"', "'": "'", "<": ">", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019"}
LINE_END = re.compile(r"\r\n|\r|\n")
REMARK = re.compile(r"(?:^|\s)#.*", re.DOTALL)
REMARK_AFTER_HEX = re.compile(r"((?:\w+:)?\s*[0-9a-fA-F]{16,64})#.*", re.DOTALL)
FILE_END = r"\.(?:jpe?g|jfif|png|gif|webp|avif|heic|bmp|tiff?|svg|ico|html?|php|aspx?)"
MORE_THAN_A_URL = re.compile(
    r"[,;|]$|[,;|\s]+[\"'<(]?[a-z][a-z0-9+.-]*://|[/?]\s|\s\s"
    rf"|(?:{FILE_END}[,;|]?\s|\s[^\w\s/]+\s|[,;|]\s)(?!.*{FILE_END}$)"
    rf"|{FILE_END}[,;|](?:[^\W\d_]+|[0-9a-f]{{16,64}})$",
    re.IGNORECASE,
)
"""An end of a list's field, a second URL, or words after what looks like a file's name and do not end as one."""
NO_PART_OF_A_URL = re.compile(r"[^\S ]|^(?:[a-z][a-z0-9+.-]*:)?//[^/?#]*[\s,;|]|^[^/?#]*[ ,;|]", re.IGNORECASE)
"""Blanks other than the space, and what no host holds."""
BROKEN_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:[/\\]|(?:https?|ftp)(?:[:;]|[/\\]{2})", re.IGNORECASE)
NUMBERS = re.compile(r"[0-9.]+")


@dataclass(frozen=True)
class ListEntry:
    """One entry of a list, in the normal form of its kind."""

    kind: str
    value: str
    line: int = field(default=0, compare=False)
    """Its number, from 1."""
    shown: str = field(default="", compare=False, repr=False)
    """The entry as it was written, for the terminal of whoever wrote it."""

    @property
    def address(self) -> str | None:
        """What a URL asks for (`curation.dataset.urls`)."""
        return address_of(self.value) if self.kind == "url" else None

    @property
    def uid(self) -> str | None:
        """The uid that a URL, as it is written, or a uid names."""
        return uid_of_url(self.value) if self.kind == "url" else self.value if self.kind == "uid" else None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list, without what ends them.

    Raises:
        UsageError: it cannot be read, or is no UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read as text: {error}") from error
    mark = next((name for mark, name in OTHER_MARKS.items() if content.startswith(mark)), None)
    if mark is not None:
        raise UsageError(f"{path}: cannot be read as text: it is {mark}; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = 1 + len(LINE_END.findall(content[: error.start].decode("latin-1")))
        raise UsageError(f"{path}: cannot be read as text: line {number} is no UTF-8; save it as UTF-8") from error
    if "\0" in text:
        number = 1 + len(LINE_END.findall(text[: text.index("\0")]))
        raise UsageError(f"{path}: cannot be read as text: line {number} holds a zero byte; save it as UTF-8")
    return LINE_END.split(text)


def read_entries(lines: Iterable[str], where: str, kinds: Collection[str]) -> Iterator[ListEntry]:
    """Yield the entries of a list in order; `kinds` are those that it may hold.

    Raises:
        UsageError: a line is none; named by its number, since what it holds is nobody's business.
    """
    for number, line in enumerate(lines, 1):
        if text := _without_remark(line):
            kind, value = _entry(text, f"{where}: line {number}", kinds)
            yield ListEntry(kind, value, number, text)


def _without_remark(line: str) -> str:
    """Return what a line says: without its remark, blanks, and quotes around all of it."""
    text = line.strip(BLANKS)
    end = text.find(QUOTES[text[0]], 1) if text[:1] in QUOTES else -1
    if end > 0 and not REMARK.sub("", text[end + 1 :]).strip(BLANKS):
        return text[1:end].strip(BLANKS)
    text = REMARK.sub("", text).strip(BLANKS)
    return REMARK_AFTER_HEX.sub(r"\1", text)


def _entry(text: str, where: str, kinds: Collection[str]) -> tuple[str, str]:
    """Return the kind and the normal form of an entry."""
    prefix, colon, rest = text.partition(":")
    kind = prefix.strip(BLANKS).lower()
    if colon and kind in KINDS and not rest.startswith("//"):
        if kind not in kinds:
            raise UsageError(f"{where}: such a list holds no {kind}: right would be {_choices(kinds)}")
        return kind, _normal(kind, _without_remark(rest), where)
    if (told := _kind_of(text, kinds)) is None:
        raise UsageError(f"{where}: no {_choices(kinds)}")
    if told == "url" and MORE_THAN_A_URL.search(text):
        raise UsageError(
            f"{where}: more than a URL; write one a line, and remarks after a blank and #; if all of it is the URL, "
            f"write url: before it"
        )
    return told, _normal(told, text, where)


def _kind_of(text: str, kinds: Collection[str]) -> str | None:
    """Return the kind of an entry that has no prefix; a key holds no blank, comma or semicolon then."""
    if "url" in kinds and is_address(text):
        return "url"
    for kind in BARE_HEX:
        if kind in kinds and _is_hex(text, HEX_DIGITS[kind]):
            return kind
    is_number = NUMBERS.fullmatch(text) is not None and domain_of(text) != text
    if "domain" in kinds and not is_number and domain_of(text) is not None:
        return "domain"
    is_key = not re.search(r"[\s,;]|://", text) and BROKEN_SCHEME.match(text) is None
    return "key" if "key" in kinds and is_key else None


def _normal(kind: str, text: str, where: str) -> str:
    if not text:
        raise UsageError(f"{where}: says {kind}: and nothing after it")
    if kind == "key":
        return text
    value: str | None = None
    if kind in HEX_DIGITS:
        value = text.lower() if _is_hex(text, HEX_DIGITS[kind]) else None
    elif kind == "domain":
        value = domain_of(text)
    elif address_of(text) is not None and NO_PART_OF_A_URL.search(text) is None:
        value = normalise_url(with_scheme(text))
    if value is None:
        raise UsageError(f"{where}: not a {kind}" if kind != "url" else f"{where}: not an http or https URL")
    return value


def _is_hex(text: str, num_digits: int) -> bool:
    return re.fullmatch(f"[0-9a-fA-F]{{{num_digits}}}", text) is not None


def _choices(kinds: Collection[str]) -> str:
    *names, last = [NAMES.get(kind, kind) for kind in kinds]
    return f"{', '.join(names)} or {last}" if names else last
