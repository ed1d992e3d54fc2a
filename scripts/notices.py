"""Write THIRD_PARTY_NOTICES.md from an SBOM: ``python -m scripts.notices build/sbom.cdx.json`` (`make sbom`)."""

import json
import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path("THIRD_PARTY_NOTICES.md")

# Licences that ask something of whoever hands the package on, unlike a copy of their text.
COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|EUPL", re.IGNORECASE)
# A classifier is longer and less exact than an SPDX name, so it is shown only where there is no other.
CLASSIFIER = "License :: "

HEAD = """# Third-party notices

<!-- Written by `make sbom` from requirements/image.txt. -->

What the images install beside Stationkeeper, each under a licence of its own, whose text lies in the package's
`.dist-info` inside the image. Wheel and source archive of Stationkeeper hold none of it.

## Packages under a copyleft licence

They are installed as their authors published them, unchanged, each in a folder of its own that you may replace; their
sources are on PyPI under the same name and version. `crc32c` computes the checksums of Kafka's records; it is under the
LGPL, which lets a program of any licence import it.

"""


def licence(component: dict[str, Any]) -> str:
    """Return what a package declares of its licence, ``not declared`` where it says nothing."""
    told = []
    for one in component.get("licenses", ()):
        own = one.get("license", {})
        found = one.get("expression") or own.get("id") or own.get("name")
        # A few put the whole text where the name belongs.
        if found:
            told.append(found.splitlines()[0].strip()[:60])
    short = [one for one in told if not one.startswith(CLASSIFIER)]
    return ", ".join(dict.fromkeys(short or [one.rpartition(":: ")[2] for one in told])) or "not declared"


def page(sbom: dict[str, Any]) -> str:
    """Return the notices of an SBOM in CycloneDX's JSON."""
    found = sorted((one["name"], one["version"], licence(one)) for one in sbom["components"])
    rows = [f"| {name} | {version} | {terms} |" for name, version, terms in found]
    strict = [row for row, (_, _, terms) in zip(rows, found, strict=True) if COPYLEFT.search(terms)]
    table = ["| package | version | licence |", "|---|---|---|"]
    return HEAD + "\n".join([*table, *strict, "", "## All packages", "", *table, *rows]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"wrote {PAGE}")
