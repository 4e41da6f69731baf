"""Filters: pictures in, evidence out; they know nothing of the pipeline above them, nor of one another.

Folders named by the environment variable `FACECAPTIONHQ_FILTERS` (separated like `PATH`) are searched after this one,
so that a filter of one's own needs no change to the package.
"""

import os

__path__ += [folder for folder in os.environ.get("FACECAPTIONHQ_FILTERS", "").split(os.pathsep) if folder]
