import json

import pytest

from curation.dataset.rights import rights_of


@pytest.mark.parametrize(
    ("metadata", "licence", "author"),
    [
        ({"LICENSE": "?", "url": "http://a.org"}, "?", None),
        ({"license": "CC BY 2.0", "Author": "Ann"}, "CC BY 2.0", "Ann"),
        ({"License_URL": "http://cc.org/by", "CREATOR": "Bo"}, "http://cc.org/by", "Bo"),
        ({"license_url": "http://cc.org/by", "licensename": "CC BY"}, "CC BY", None),
        ({"Image Credit": "x", "credit": "Photo: C", "copyright": "(c) D"}, None, "Photo: C"),
        ({"author": None, "creator": "  ", "copyright": "(c) D"}, None, "(c) D"),
        ({"caption": "an author"}, None, None),
    ],
)
def test_licence_and_author_are_found_by_name_without_case(
    metadata: dict[str, object], licence: str | None, author: str | None
) -> None:
    found = rights_of(metadata)
    assert (found.license, found.author) == (licence, author)


def test_every_column_of_the_kind_is_carried_under_its_own_name() -> None:
    found = rights_of(
        {"LICENSE": "?", "author_url": "http://a.org/ann", "credits": ["a", "b"], "text": "x", "Rights": ""}
    )
    assert json.loads(found.as_json or "") == {
        "LICENSE": "?", "author_url": "http://a.org/ann", "credits": '["a", "b"]',
    }  # fmt: skip
    assert rights_of({"text": "x"}).as_json is None
