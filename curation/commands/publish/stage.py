"""`publish`: the gates, the card, what would be sent, and, where that was asked for, the sending."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from curation.commands.card.origin import Origin, origin_of
from curation.commands.card.stage import PIXELS_FOLDER, Card, make_card
from curation.commands.card.statements import Statements
from curation.commands.card.text import warnings
from curation.commands.publish.gates import require_fit
from curation.commands.publish.hub import Hub
from curation.commands.publish.there import RunRecords, require_sendable
from curation.dataset.stages import CARD_NAME, CARD_VALUES_NAME, CROISSANT_NAME, PACK
from curation.dataset.tombstones import consult
from curation.errors import UsageError
from curation.run.folders import shown_from
from curation.run.publications import PublishedPack, digest_of_pack, leave_record, publications_of, settle_record
from curation.run.runner import OnOutcome, Spread, silent
from curation.storage.paths import local_copy, resolved
from curation.storage.publish import FileRecord, record_of
from curation.storage.scratch import scratch_folder

CARD_FILES = (CARD_NAME, CROISSANT_NAME, CARD_VALUES_NAME)


@dataclass(frozen=True)
class Publication:
    """What is, or would be, published."""

    pack: Path
    statements: Statements
    files: Mapping[str, FileRecord]
    """By path in the repository."""
    warnings: tuple[str, ...] = ()
    """What whoever publishes it should know first."""
    commit: str | None = None
    """Where the hub shows it; None where nothing was sent."""

    @property
    def num_bytes(self) -> int:
        """Return the bytes of all files."""
        return sum(record.num_bytes for record in self.files.values())


@dataclass(frozen=True)
class Delivery:
    """How a publication is sent."""

    is_private: bool = True
    """Of a repository that is not there yet; one that is public is refused then."""
    without_history: bool | None = None
    """Whether one commit only is left. None: as many as there are, but after a takedown it must be said."""
    may_replace: bool = False
    """Whether a publication of which the run has no record may be replaced."""
    hub: Callable[[str], Hub] = Hub


def publish(
    folder: Path,
    statements: Statements,
    card: Path | None = None,
    run: Path | None = None,
    delivery: Delivery | None = None,
    spread: Spread | None = None,
    on_outcome: OnOutcome = silent,
) -> Publication:
    """Send a pack to the repository that `statements` name; without `delivery` only say what would be sent.

    `card` is one that was made before, and is checked; what is sent is made anew of what it states.

    Raises:
        VerificationError: the pack or its card is not fit to be published; nothing was sent then.
        UsageError: no repository is named, there is no such pack, the hub does not let this user, or what lies in the
            repository wants a word first; nothing was sent then.
        StorageError: the hub did not take it; the same command goes on.
    """
    if statements.repo is None:
        raise UsageError("name the repository as NAMESPACE/NAME")
    origin = origin_of(folder, run)
    require_fit(origin, card, spread or Spread(num_workers=0), on_outcome)
    with scratch_folder("pub") as staging:
        made = make_card(origin, staging, statements)
        records = {**made.files, **{name: record_of(staging / name) for name in CARD_FILES}}
        warned = tuple(warnings(made.values, statements.form))
        planned = Publication(origin.pack.folder, statements, records, warned)
        return planned if delivery is None else _sent(planned, made, delivery)


def _sent(planned: Publication, card: Card, delivery: Delivery) -> Publication:
    repo, state = str(planned.statements.repo), card.origin.manifest.state
    with ExitStack() as copies:
        _lay_tars(card.origin, card.folder, planned, copies)
        hub, run = delivery.hub(repo), card.origin.run
        assert run is not None, "a pack whose run is not known is not fit to be published"
        files = {path: card.folder / path for path in planned.files}
        there, record = hub.create(delivery.is_private), _record(card, planned, hub.endpoint, run, delivery)
        own = [one.card_sha256 for one in publications_of(run).values() if one.is_at(record.place)]
        require_sendable(
            there, files, planned.files, RunRecords(card.values, card.takedowns, frozenset([record.card_sha256, *own])),
            may_be_public=not delivery.is_private, is_history_settled=delivery.without_history is not None,
            may_replace=delivery.may_replace,
        )  # fmt: skip
        leave_record(run, record)
        message = f"Publish state {state[:12]}, form {planned.statements.form}"
        commit = hub.send(card.folder, message, CARD_FILES, without_history=bool(delivery.without_history))
        hub.require(files, planned.files)
        settle_record(run, record)
    return replace(planned, commit=commit)


def _record(card: Card, planned: Publication, endpoint: str, run: Path, delivery: Delivery) -> PublishedPack:
    """Return what the run is to remember of what is sent."""
    return PublishedPack(
        endpoint=endpoint,
        repo=str(planned.statements.repo),
        pack=shown_from(resolved(run), resolved(planned.pack)),
        card_sha256=planned.files[CARD_VALUES_NAME].sha256,
        stated=planned.statements.model_dump(mode="json", exclude_defaults=True),
        is_public=not delivery.is_private,
        forgotten=tuple(sorted((consult(planned.pack) | consult(run / PACK.name)).uids)),
        packed=digest_of_pack(planned.pack),
    )


def _lay_tars(origin: Origin, staging: Path, planned: Publication, copies: ExitStack) -> None:
    """Lay the pack's tars beside the card by links: the bytes of the pack are sent as they are."""
    for path in planned.files:
        if path.startswith(f"{PIXELS_FOLDER}/"):
            copy = copies.enter_context(local_copy(origin.pack.folder / path.rpartition("/")[2]))
            (staging / path).parent.mkdir(exist_ok=True)
            (staging / path).symlink_to(copy.resolve())
