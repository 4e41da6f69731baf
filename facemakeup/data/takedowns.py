"""What the trainer owes to takedowns: it takes nothing that was forgotten, and can be found by who forgets later."""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from curation.dataset.tar import split_name
from curation.dataset.tar.headers import TarFaultError, Walk
from curation.dataset.tombstones import consult
from curation.errors import SafetyError, StorageError
from curation.run.derived import homes_of, register
from curation.storage.lock import together
from curation.storage.paths import folders_of, location

log = logging.getLogger(__name__)


@contextmanager
def remembering(folder: Path, tars: Iterable[str]) -> Iterator[frozenset[str]]:
    """Yield the uids that must not come into a folder that is made from tars; what is written is written in the block.

    A `forget` that begins meanwhile looks into the folder after the block, and who enters it later sees what is gone.

    Raises:
        LeaseError: a `forget` is at work in the folder.
        UsageError: a `forget` was interrupted where a tar lies.
    """
    with together(folder):
        yield forgotten_of(tars)


def forgotten_of(tars: Iterable[str]) -> frozenset[str]:
    """Return the uids that are forgotten in the runs that tars lie in, which are given by their addresses.

    Raises:
        UsageError: a `forget` was interrupted there.
    """
    folders = folders_of(map(location, tars))
    return frozenset().union(*(consult(folder).uids for folder in folders))


def require_remembered(tars: Sequence[str], keys: Any, forgotten: Collection[str]) -> None:
    """Refuse tars, given by their addresses, that hold what is forgotten; `keys` are those of all samples, in Arrow.

    Raises:
        SafetyError: a sample is forgotten.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if forgotten and len(living := keys.filter(pc.is_in(keys, value_set=pa.array(sorted(forgotten), pa.string())))):
        raise _not_gone(tars[0] if len(tars) == 1 else _folder(tars[0]), living[0].as_py())


def require_remembered_tar(address: str, tar: Path, forgotten: Collection[str]) -> None:
    """Refuse the copy of the tar at an address, if it holds what is forgotten; nobody reads behind where it is torn.

    Raises:
        SafetyError: that is so.
    """
    if not forgotten:
        return
    with tar.open("rb") as file, suppress(TarFaultError):
        for member in Walk(file, tar.stat().st_size).members():
            if (key := split_name(member.name)[0]) in forgotten:
                raise _not_gone(address, key)


def leave_cards(tars: Sequence[str], made: Collection[tuple[str, Path]]) -> None:
    """Tell each folder that a stage wrote what is made from it, as (kind, folder), so that `forget` reaches that too.

    Tars lie in such a folder by their names or through links. Where they do not, or it cannot be written to, a warning
    says which folders have to be named to `forget`.
    """
    for folder in sorted(set(map(_folder, tars))):
        homes = homes_of(location(tar) for tar in tars if _folder(tar) == folder)
        if not homes:
            _warn(folder, made, "its tars lie in no stage's folder")
        for source in homes:
            for one in made:
                try:
                    register(source, one[1], one[0], "")
                except (StorageError, OSError) as error:
                    _warn(str(source), [one], error)


def _warn(folder: str, made: Collection[tuple[str, Path]], why: object) -> None:
    targets = ", ".join(str(target) for _, target in made)
    log.warning("%s: `forget` will not find %s by itself (--also): %s", folder, targets, why)


def _folder(tar: str) -> str:
    return tar.rpartition("/")[0]


def _not_gone(address: str, key: str) -> SafetyError:
    return SafetyError(f"{address}: holds {key}, which was forgotten; run `facecaptionhq forget` again")
