"""The licences of what ships: read from the packages of the lock, written to docs/licences.md, held to a list.

`python -m tests.licences` writes the page; with `--check` it fails where the page is old, or a licence or a hash is
missing or not allowed: `make lint` runs that.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = ROOT / "requirements.lock"
PAGE: Final = ROOT / "docs" / "licences.md"
ALLOWED: Final = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0"),
        *("PSF-2.0", "Unlicense", "Zlib"),
        # Asks for the source of its own files only where they are changed; none is.
        "MPL-2.0",
    }
)
"""Licences (SPDX) under which a package may ship with software under Apache-2.0."""
WORDS: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""What packages write that name no SPDX identifier; each BSD among them was read, and has three clauses."""
NOT_INSTALLED: Final = {"colorama": "BSD-3-Clause", "httpx2-jsfetch": "BSD-3-Clause"}
"""Packages of other platforms than the one this runs on."""
BROWSER: Final = (("@asyncapi/react-component", "Apache-2.0", "the page at /asyncapi"),)


@dataclass(frozen=True, slots=True)
class Locked:
    """A package of the lock; it may stand there twice, for Pythons of different age."""

    name: str
    versions: tuple[str, ...]
    hashed: bool
    licence: str | None
    """SPDX expression; None where none was found."""


def locked() -> list[Locked]:
    """Return the packages of the lock in its order."""
    blocks = re.split(r"^(?=[a-z0-9])", LOCK.read_text(), flags=re.MULTILINE)[1:]
    found: dict[str, list[tuple[str, bool]]] = {}
    for block in blocks:
        name, _, rest = block.partition("==")
        found.setdefault(name, []).append((re.split(r"[ ;\\]", rest)[0], "--hash=sha256:" in block))
    return [
        Locked(name, tuple(version for version, _ in each), all(hashed for _, hashed in each), licence_of(name))
        for name, each in found.items()
    ]


def licence_of(name: str) -> str | None:
    """Return a package's SPDX expression: what it declares, or what its older fields say."""
    if name in NOT_INSTALLED:
        return NOT_INSTALLED[name]
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    classifiers = told.get_all("Classifier") or []
    words = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: OSI Approved ::")]
    for candidate in (told.get("License-Expression"), told.get("License"), *words):
        if not candidate:
            continue
        try:
            return str(canonicalize_license_expression(WORDS.get(candidate, candidate)))
        except InvalidLicenseExpression:
            continue  # The text of a licence, or a sentence about one: the next field may say more.
    return None


def allowed(expression: str) -> bool:
    """Whether all that is demanded is on the list; of alternatives one is enough."""
    demands = re.sub(r"[()]", "", expression).split(" AND ")
    return all(any(choice.strip() in ALLOWED for choice in demand.split(" OR ")) for demand in demands)


def page(packages: list[Locked]) -> str:
    rows = "\n".join(f"| {each.name} | {', '.join(each.versions)} | {each.licence} |" for each in packages)
    browser = "\n".join(f"| {name} | {licence} | {use} |" for name, licence, use in BROWSER)
    return (
        "# Licences\n\n"
        "Vigil Guard is under the Apache License 2.0 ([LICENSE](../LICENSE)), and so are its models and the text in "
        "[data/](../data). What follows ships with it:\nthe packages of `requirements.lock`, as they declare it "
        "themselves. `make licences` writes this page, `make lint` refuses a licence that is not on the\nlist in "
        "`tests/licences.py`, and `make sbom` writes the same packages as a CycloneDX bill of materials.\n\n"
        f"| package | version | licence |\n|---|---|---|\n{rows}\n\n"
        "Fetched by `make assets` for the browser:\n\n"
        f"| package | licence | for |\n|---|---|---|\n{browser}\n"
    )


def faults(packages: list[Locked]) -> list[str]:
    """Return what is wrong, one line each."""
    found = [f"{each.name}: no hash in the lock" for each in packages if not each.hashed]
    for each in packages:
        if each.licence is None:
            found.append(f"{each.name}: no licence found; is it installed? `make lint` installs the lock first")
        elif not allowed(each.licence):
            found.append(f"{each.name}: {each.licence} is not on the list of tests/licences.py")
    if not found and PAGE.read_text() != page(packages):
        found.append("docs/licences.md is not of this lock: run `make licences`")
    return found


def main() -> None:
    packages = locked()
    if "--check" in sys.argv[1:]:
        sys.exit("\n".join(faults(packages)) or None)
    PAGE.write_text(page(packages))


if __name__ == "__main__":
    main()
