"""A gate: images whose captions say next to nothing are not fetched."""

from typing import Any

WORDS = "len(string_split_regex(trim(coalesce(caption, '')), '\\s+'))"
IS_FILE_NAME = r"regexp_full_match(trim(coalesce(caption, '')), '(?i)(img|dsc|image)?[ _-]?\d+\.(jpe?g|png|webp)')"


def gate(table: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the conditions, each with its reason; `min_words` is the least number of words of LAION's caption.

    Raises:
        ValueError: the table holds anything else.
    """
    if set(table) != {"min_words"} or not isinstance(table["min_words"], int):
        raise ValueError(f"it takes `min_words`, a whole number, and nothing else; given were {table}")
    return [(IS_FILE_NAME, "file_name"), (f"{WORDS} < {table['min_words']}", "few_words")]
