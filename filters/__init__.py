"""Filters: pictures in, evidence out; they know nothing of the pipeline above them, nor of one another.

A filter of one's own needs no change to the package. After this folder are searched, in turn, the folders that the
environment variable `FACECAPTIONHQ_FILTERS` names (separated like `PATH`), and the packages that installed
distributions name under the entry point `facecaptionhq.filters`.
"""

import logging
import os

from filters.plugins import FILTERS, folders_of, offered


def _installed() -> list[str]:
    """Return the folders of the packages that installed distributions offer.

    One that is offered but not there stops nobody who does not ask for its filters, so it is only warned of.
    """
    folders: list[str] = []
    for one in offered(FILTERS):
        if not (found := folders_of(one)):
            message = "entry point %s of %s: no package %r is here, so none of its filters; reinstall what offers it"
            logging.getLogger(__name__).warning(message, one.name, FILTERS, one.value)
        folders += found
    return folders


__path__ += [folder for folder in os.environ.get("FACECAPTIONHQ_FILTERS", "").split(os.pathsep) if folder]
__path__ += _installed()
