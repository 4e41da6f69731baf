"""Where a lock is written: beside limits of the same labels and ledgers, in the place of those of others."""

from pathlib import Path

from curation.errors import RecipeError
from curation.recipe.limits import LimitsLock, read_lock
from curation.storage.publish import publish_alone

SAME = ("labels_sha256", "ledger_state", "recipe_digest", "code_version")


def write_lock(path: Path, lock: LimitsLock) -> list[str]:
    """Write a lock with what the file holds already of the same labels and ledgers; return the limits that fell away.

    Raises:
        RecipeError: something else lies there.
    """
    dropped: list[str] = []
    if path.exists():
        try:
            before = read_lock(path)
        except RecipeError as error:
            raise RecipeError(f"{path}: not written over, since it is no lock of limits: {error}") from error
        new = {(limit.filter, limit.score) for limit in lock.limits}
        others = tuple(limit for limit in before.limits if (limit.filter, limit.score) not in new)
        if all(getattr(before, name) == getattr(lock, name) for name in SAME):
            lock = lock.model_copy(update={"limits": (*others, *lock.limits)})
        else:
            dropped = [f"{limit.filter}.{limit.score}" for limit in others]
    publish_alone(path, lambda temp: temp.write_text(lock.written(), encoding="utf-8"))
    return dropped
