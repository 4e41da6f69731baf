"""What every test stands on: one thread per process, no word to the network, and a temporary folder of its own."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from multiprocessing.util import get_temp_dir
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("WDS_SECURE", "1")

# A shell that starts a suite in the background has it ignore Ctrl-C, and so every command that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is published is synced, thousands of times in a suite: on a disk that is most of what a test waits for.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("steady")
# Hypothesis tries constants of whatever modules are loaded: a test's examples would hang on the tests before it.
assert callable(providers._get_local_constants)
setattr(providers, "_get_local_constants", Constants)  # noqa: B010  a name of its own, and it is untyped


# Millions of objects of libraries stay to the end: to look through them again and again takes a tenth of a suite.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage from here on, but for what is there by now."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let what is killed before it can tidy up leave its folders where they go with the session.

    The name is short, since Ray puts sockets below it.
    """
    tmp_path_factory.getbasetemp()  # stays where it is, for whoever wants to look at what failed
    get_temp_dir()  # multiprocessing removes its own when the process ends, and would miss it
    with (
        tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield
