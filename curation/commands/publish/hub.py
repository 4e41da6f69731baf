"""Sending a folder to a data set repository of the hub: few commits, found again after any interruption.

`HfApi.upload_folder` sends what the repository lacks, in as few commits as it can; called again it goes on. What may
pass (too many requests, a commit that came between, a gateway that gave up) is tried again here.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from curation.commands.publish.there import MAX_CARD_BYTES, AtTheHub, is_same
from curation.dataset.stages import CARD_VALUES_NAME
from curation.errors import StorageError, UsageError, VerificationError
from curation.storage.publish import FileRecord

NUM_ATTEMPTS = 8
MAX_PAUSE_S = 60.0
PASSING = frozenset({408, 409, 412, 429, 500, 502, 503, 504})
"""412 says that another commit came between."""
CLIENTS = frozenset({"httpx", "httpx2", "requests"})
"""Packages whose errors, beside those with a status, mean that the way to the hub failed."""
DATA_FOLDERS = ("data/*", "pixels/*")
"""Files that are nobody's but a publication's: what it does not hold any more goes."""
KIND = "dataset"
TIMEOUT_S = 30.0

T = TypeVar("T")


class Hub:
    """One repository of data."""

    def __init__(self, repo: str, pause: Callable[[float], None] = time.sleep) -> None:
        """Take the address (`HF_ENDPOINT`) and the token (`HF_TOKEN`, `hf auth login`) that the hub's library finds.

        Raises:
            UsageError: the library is told to stay offline.
        """
        from huggingface_hub import HfApi, constants

        if constants.is_offline_mode():
            raise UsageError("HF_HUB_OFFLINE is set: nothing can be sent; unset it first")
        _say_once()
        self._api: HfApi = HfApi()
        self._repo = repo
        self._pause = pause

    @property
    def endpoint(self) -> str:
        """Address of the hub."""
        return str(self._api.endpoint)

    def create(self, is_private: bool) -> AtTheHub:
        """Make the repository, if it is not there, and return what lies in it.

        Raises:
            UsageError: the hub does not let this user.
            StorageError: it does not answer.
        """
        self._again(
            lambda: self._api.create_repo(self._repo, repo_type=KIND, private=is_private, exist_ok=True)
        )  # fmt: skip
        info = self._again(lambda: self._api.repo_info(self._repo, repo_type=KIND))
        files = self._files()
        is_readable = CARD_VALUES_NAME in files and files[CARD_VALUES_NAME].size <= MAX_CARD_BYTES
        return AtTheHub(self._repo, not info.private, files, self._again(self._card) if is_readable else None)

    def _card(self) -> bytes:
        """Return the repository's `card.json` as it lies there."""
        from huggingface_hub import get_session, get_token

        headers = {"Authorization": f"Bearer {token}"} if (token := get_token()) else {}
        url = f"{self._api.endpoint}/datasets/{self._repo}/resolve/main/{CARD_VALUES_NAME}"
        answer = get_session().get(url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True)
        answer.raise_for_status()
        return bytes(answer.content)

    def send(self, folder: Path, message: str, last: tuple[str, ...], *, without_history: bool = False) -> str:
        """Send a folder's files, those in `last` in a commit after all others, and return where the hub shows it.

        `without_history` leaves one commit. It is done before the card comes, too: until nothing of what was published
        before can be asked for, the card there is the old one, by which the next call knows that it must be done.
        """

        def upload(**patterns: Any) -> str:
            info = self._again(
                lambda: self._api.upload_folder(
                    repo_id=self._repo, repo_type=KIND, folder_path=folder, commit_message=message, **patterns
                )
            )
            return str(info.commit_url)

        upload(allow_patterns=list(DATA_FOLDERS), delete_patterns=list(DATA_FOLDERS))
        if without_history:
            self._forget_history()
        shown = upload(allow_patterns=list(last))
        if without_history:
            self._forget_history()
        return shown

    def _forget_history(self) -> None:
        """Leave one commit: what was published before is in none that can be asked for."""
        self._again(lambda: self._api.super_squash_history(self._repo, repo_type=KIND))

    def require(self, files: Mapping[str, Path], records: Mapping[str, FileRecord]) -> None:
        """Make sure that the hub holds these very files, by its own hashes.

        Raises:
            VerificationError: one is missing or another.
        """
        found = self._files()
        for path, local in files.items():
            entry = found.get(path)
            if entry is None:
                raise VerificationError(f"{self._repo}: lacks {path} after all was sent; publish again")
            if not is_same(entry, local, records[path]):
                raise VerificationError(f"{self._repo}: {path} is another file there; did somebody commit meanwhile?")

    def _files(self) -> dict[str, Any]:
        tree = self._again(lambda: list(self._api.list_repo_tree(self._repo, repo_type=KIND, recursive=True)))
        return {entry.path: entry for entry in tree if hasattr(entry, "blob_id")}

    def _again(self, act: Callable[[], T]) -> T:
        """Do something at the hub, up to `NUM_ATTEMPTS` times while what is against it may pass."""
        for attempt in range(1, NUM_ATTEMPTS + 1):
            try:
                return act()
            except Exception as error:
                if not _is_of_the_hub(error):
                    raise
                if attempt == NUM_ATTEMPTS or not may_pass(error):
                    raise self._refusal(error) from None
                self._pause(min(MAX_PAUSE_S, 2.0 ** (attempt - 1)))
        raise AssertionError("unreachable")

    def _refusal(self, error: BaseException) -> UsageError | StorageError:
        """Return an error of ours for what the hub said; a token in it is not shown."""
        from huggingface_hub import get_token

        said = "; because of ".join(f"{type(cause).__name__}: {cause}" for cause in _causes(error))
        said = said.replace(token, "***") if (token := get_token()) else said
        if _status(error) in (401, 403):
            return UsageError(
                f"{self._repo}: the hub does not let you: {said}; log in by `hf auth login`, or set HF_TOKEN"
            )
        return StorageError(f"{self._repo}: {said}; what is sent stays there, and the same command goes on")


def _say_once() -> None:
    """Leave what the hub's library says to our own log, and its bars to terminals."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    logging.getLogger("huggingface_hub").handlers.clear()
    if not sys.stderr.isatty():
        disable_progress_bars()


def may_pass(error: BaseException) -> bool:
    """Whether the hub may take the same call a little later."""
    status = _status(error)
    return (
        status in PASSING if status is not None else not isinstance(error, ValueError | KeyError) or _is_no_json(error)
    )


def _is_of_the_hub(error: BaseException) -> bool:
    if isinstance(error, RuntimeError | OSError) and not isinstance(error, FileNotFoundError | PermissionError):
        return True
    kinds = {kind.__module__.partition(".")[0] for cause in _causes(error) for kind in type(cause).__mro__}
    return bool(kinds & (CLIENTS | {"huggingface_hub", "hf_xet"})) or any(map(_is_no_json, _causes(error)))


def _is_no_json(error: BaseException) -> bool:
    """Whether an answer was no JSON, such as a gateway's page."""
    return isinstance(error, json.JSONDecodeError)


def _status(error: BaseException) -> int | None:
    answers = (getattr(cause, "response", None) for cause in _causes(error))
    return next((int(answer.status_code) for answer in answers if answer is not None), None)


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__
    return found
