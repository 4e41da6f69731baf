"""What every test stands on: one thread per process, and no word to the network."""

import os

from hypothesis import settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("WDS_SECURE", "1")

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("steady")
# Hypothesis tries constants of whatever modules are loaded: a test's examples would hang on the tests before it.
assert callable(providers._get_local_constants)
setattr(providers, "_get_local_constants", Constants)  # noqa: B010  a name of its own, and it is untyped
