"""What a tar, a sample and its texts may claim; held here, so that a verdict depends on no Python and no stack."""

MAX_MEMBER_BYTES = 256 << 20
"""Size of one picture; a larger one is not read."""
MAX_SOURCE_TEXT_BYTES = 1 << 20
"""Size of a sample's `.json` or `.txt` that comes from outside; a larger one is not read."""
MAX_TEXT_BYTES = 16 << 20
"""The same in a tar of our own, where every character may have become an escape of several bytes."""
MAX_JSON_DEPTH = 128
"""Objects and arrays within one another."""
MAX_INTEGER_DIGITS = 640
"""Digits of an integer in JSON: as many as every setting of Python reads and writes."""
MAX_MEMBERS = 1_000_000
"""Members of one tar."""
MAX_NAMES_BYTES = 128 << 20
"""Bytes of the names of one tar's members together."""
MAX_NAME_BYTES = 1024
"""Bytes of one member's name; of a longer one the beginning stays, with the digest of the whole."""
MAX_EXTENSION_BYTES = 1 << 20
"""Size of a header that only extends another (long names, PAX records)."""
MAX_CHAINED_HEADERS = 16
"""Headers in a row that only extend the next member's."""
MAX_END_BYTES = 10240 + 512
"""Zeros after the last member in a tar of usual records; more of them may be what is left of members."""
