"""What a source says of licence, author and source page, under whatever name: it goes with the picture to the end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.dataset.captions import clean_caption

UNKNOWN = "unknown"
"""Stands in packed metadata, which has no nulls, where a source says nothing."""
LICENSE_NAMES = (
    "license", "licence", "licensename", "licencename", "licensetype", "licensetitle", "usageterms", "rights",
    "licenseurl", "licenceurl", "licenselink", "licensepage",
)  # fmt: skip
"""Columns that name a licence, likeliest first, without case and punctuation: LAION's `LICENSE`, `license_url`."""
AUTHOR_NAMES = (
    "author", "authorname", "creator", "creatorname", "artist", "photographer", "byline", "credit", "creditline",
    "credits", "attribution", "copyright", "copyrightholder", "copyrightnotice", "owner", "ownername", "usernickname",
    "uploader",
)  # fmt: skip
"""Columns that name an author, in the same way."""
STEMS = (
    "licens", "licenc", "rights", "usageterms", "author", "creator", "artist", "photographer", "byline", "credit",
    "attribution", "copyright", "owner", "uploader", "usernickname",
)  # fmt: skip
"""How the names of all columns begin that are carried."""
PAGE_NAMES = frozenset(
    {
        "sourcepage", "sourceurl", "sourcelink", "pageurl", "pagelink", "urlpage", "landingpage", "landingurl",
        "foreignlandingurl", "descriptionurl", "photopageurl", "photovideopageurl", "webpageurl", "referrer", "referer",
    }
)  # fmt: skip
"""Columns that name the page where a picture was found: who made it is said there, so they are carried, too."""
RIGHTS_COLUMN = "rights_json"
"""Column of tables of ours that holds such columns as a JSON object, each by its own name."""
MAX_CHARACTERS = 2000


@dataclass(frozen=True)
class Rights:
    """What the source says; None and empty where it says nothing."""

    license: str | None
    author: str | None
    columns: Mapping[str, str]
    """Every column of the kind, by the source's own name."""

    @property
    def as_json(self) -> str | None:
        """The columns as JSON text, None where there is none."""
        return json.dumps(self.columns, sort_keys=True, ensure_ascii=False) if self.columns else None


def rights_of(metadata: Mapping[str, Any]) -> Rights:
    """Return what the metadata of a picture says of licence and author; names match without case and punctuation."""
    columns = {
        clean_caption(name, MAX_CHARACTERS): text
        for name, value in sorted((columns_in(metadata.get(RIGHTS_COLUMN)) | dict(metadata)).items())
        if name != RIGHTS_COLUMN and is_rights(name) and (text := _text(value))
    }
    folded = {_folded(name): text for name, text in reversed(columns.items())}
    return Rights(_first(folded, LICENSE_NAMES), _first(folded, AUTHOR_NAMES), columns)


def is_rights(name: str) -> bool:
    """Whether a column of that name says of a picture whose it is, and is carried."""
    folded = _folded(name)
    return folded.startswith(STEMS) or folded in PAGE_NAMES


def columns_in(text: Any) -> dict[str, str]:
    """Return the columns that stand in a cell of `RIGHTS_COLUMN`; none where it holds no JSON object."""
    try:
        columns = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return columns if isinstance(columns, dict) else {}


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _first(columns: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((columns[name] for name in names if name in columns), None)


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return clean_caption(text, MAX_CHARACTERS)
