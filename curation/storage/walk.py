"""What lies below a local folder while others may change it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def entries_below(folder: str | Path, passed_over: type[OSError] = FileNotFoundError) -> Iterator["os.DirEntry[str]"]:
    """Yield every entry below a folder that is no folder itself; links to folders are such, and are not followed.

    A folder that goes while it is walked has none, as has any that cannot be read for a reason of `passed_over`.
    """
    with suppress(FileNotFoundError, passed_over), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from entries_below(entry.path, passed_over)
            else:
                yield entry
