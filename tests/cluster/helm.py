"""The chart as helm renders it: by a real helm where there is one, else from what one rendered before.

``python -m tests.cluster.helm`` (``make chart``) renders it again. Alert rules and dashboards are left out of what is
kept: they change without the chart, and stand in ops/ as they are.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.apiserver import VARIABLE

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "ops" / "helm" / "stationkeeper"
VALUES = {name: CHART / "ci" / f"{name}-values.yaml" for name in ("minimal", "full")}
RENDERED = {name: Path(__file__).parent / "charts" / f"{name}.yaml" for name in VALUES}
KEPT = ("--set", "prometheusRule.enabled=false,dashboards.enabled=false")
RELEASE, NAMESPACE = "sk", "drift"
Object = dict[str, Any]


def helm() -> str | None:
    """Return the program, from the folder that ``make kube`` fills or from PATH; None where there is none."""
    built = Path(os.environ.get(VARIABLE, "/nonexistent")) / "helm"
    return str(built) if built.exists() else shutil.which("helm")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm; its words about symbolic links are left out."""
    done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True)
    told = [line for line in done.stderr.splitlines() if "found symbolic link" not in line]
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, "\n".join(told))


def rendered(program: str, values: str, *arguments: str) -> str:
    """Return the chart's manifests by one of its files of values."""
    named = ("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", str(VALUES[values]))
    done = run(program, *named, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(text: str) -> list[Object]:
    """Return the documents of manifests, each with the namespace that helm would install it in."""
    found = [one for one in yaml.safe_load_all(text) if one]
    for one in found:
        one["metadata"].setdefault("namespace", NAMESPACE)
    return found


def kept(values: str) -> list[Object]:
    """Return what a helm rendered before."""
    return objects(RENDERED[values].read_text(encoding="utf-8"))


def main() -> None:
    """Render the chart again; raises ``SystemExit`` without helm."""
    program = helm()
    if program is None:
        raise SystemExit(f"no helm on PATH or in the folder of {VARIABLE}; make kube builds one")
    for values, path in RENDERED.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered(program, values, *KEPT), encoding="utf-8")


if __name__ == "__main__":
    main()
