"""What processes that may meet hostile bytes are told of this one's environment: all but keys."""

import os
import re

SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
"""Names of variables that are kept from a child: it needs no key to anything."""


def without_keys() -> dict[str, str]:
    """Return the environment without variables whose names speak of secrets."""
    return {name: value for name, value in os.environ.items() if not SECRET.search(name)}
