"""A secret stands in every setting that can hold one, found by walking the settings; no output shows any."""

import base64
import ssl
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import yaml
from pydantic import BaseModel, SecretStr

from stationkeeper.config import Config, ConfigError, load
from stationkeeper.contracts.settings import Credential
from stationkeeper.deploy.adoption import adoption, commit
from stationkeeper.process.wiring import prepare_topics, topics_of
from stationkeeper.streams.broker.local import free_ports
from stationkeeper.streams.connect import sink_for
from tests.secured import SecuredBroker, openssl
from tests.waiting import until

# Nothing listens on port 1: what a password in an address would be shown by, an error that names the address.
NOBODY = "127.0.0.1:1"
ROLES = ("monitor", "retrain", "deploy", "serve")
ADDRESSES = ("url", "uri", "root", "peers")
MODEL = "orders"


class Planted:
    """Settings as plain data with a secret in every place that can hold one, and those secrets by their place."""

    def __init__(self, data: dict[str, Any], directory: Path) -> None:
        self.data, self.secrets = data, dict[str, str]()
        self._directory = directory
        self._walk(Config, data, ())

    def _walk(self, model: type[BaseModel], data: dict[str, Any], path: tuple[str, ...]) -> None:
        if model is Credential:
            data["secret"] = self._new((*path, "secret"))
            return
        for name, field in model.model_fields.items():
            here, kinds = (*path, name), set(_kinds(field.annotation))
            inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
            if SecretStr in kinds:
                data[name] = self._new(here)
            elif Path in kinds and name.endswith("password_file"):
                data[name] = str(self._file(here))
            elif name.endswith(ADDRESSES) and Credential in kinds:
                # A secret as a whole, as chat systems give an address that anyone may write to.
                data[name] = {"secret": f"http://{NOBODY}/{self._new(here)}"}
            elif str in kinds and name.endswith(ADDRESSES):
                address = f"http://user:{self._new(here)}@{NOBODY}/"
                data[name] = {"deploy": address} if dict in kinds else address
            elif name == "options":
                data[name] = {"api_key": self._new(here)}
            elif inner:
                self._descend(inner, kinds, data, here)

    def _descend(
        self, inner: list[type[BaseModel]], kinds: set[Any], data: dict[str, Any], here: tuple[str, ...]
    ) -> None:
        before, name = len(self.secrets), here[-1]
        given = data.get(name)
        if dict in kinds:
            found = given or {"one": {}}
            members = list(found.values())
        elif tuple in kinds:
            found = given or [{}]
            members = list(found)
        else:
            found = given or {}
            members = [found]
        for one in members:
            for kind in inner:
                if isinstance(one, dict):
                    self._walk(kind, one, here)
        if len(self.secrets) > before:
            data[name] = found

    def _new(self, path: tuple[str, ...]) -> str:
        secret = f"planted-{len(self.secrets)}-Zq7"
        self.secrets[".".join(path)] = secret
        return secret

    def _file(self, path: tuple[str, ...]) -> Path:
        file = self._directory / "-".join(path)
        file.write_text(self._new(path) + "\n")
        return file

    def leaks(self, text: str) -> list[str]:
        """Return the places whose secret stands in a text, plain, escaped or as a header would carry it."""
        return [
            place
            for place, secret in self.secrets.items()
            for form in (secret, urllib.parse.quote(secret), base64.b64encode(f"user:{secret}".encode()).decode())
            if form in text
        ]


def _kinds(annotation: Any) -> Iterator[Any]:
    yield getattr(annotation, "__origin__", annotation)
    for argument in get_args(annotation):
        yield from _kinds(argument)


def settings(directory: Path, broker: SecuredBroker | None = None) -> Planted:
    ports = dict(zip(ROLES, free_ports(len(ROLES)), strict=True))
    kafka = broker.settings("root") if broker else {"bootstrap": NOBODY, "security": {}}
    data: dict[str, Any] = {
        "kafka": {**kafka, "prefix": "leaks"},
        "serve": {"port": ports["serve"], "cache_dir": str(directory / "served")},
        "http": {
            **{role: ports[role] for role in ROLES if role != "serve"},
            "tls": {name: str(directory / f"http.{name}") for name in ("cert_file", "key_file")},
        },
        "registry": {"timeout": "1s", "retries": 0},
        "targets": [{"kind": "router"}, {"kind": "http"}],
        "models": {
            MODEL: {
                "predictions": "leaks.in",
                "labels": "leaks.truth",
                "retrain": {},
                "rollout": {"queries": {"one": {"query": "vector(0)", "at_most": 1}}},
            }
        },
    }
    return Planted(data, directory)


def test_the_walk_finds_what_is_known_to_hold_secrets(tmp_path: Path) -> None:
    found = set(settings(tmp_path).secrets)
    assert found >= {
        "kafka.security.password",
        "kafka.security.password_file",
        "kafka.security.key_password",
        "kafka.security.key_password_file",
        "registry.tracking_uri",
        "registry.artifact_root",
        "targets.url",
        "targets.token.secret",
        "targets.options",
        "http.callers.secret",
        "http.tls.key_password_file",
        "http.peers",
        "models.rollout.queries.url",
        "models.rollout.queries.token.secret",
    }


def test_an_error_of_the_configuration_shows_none(tmp_path: Path) -> None:
    planted = settings(tmp_path)
    assert planted.leaks(str(planted.data)), "the search finds what is there"
    Config.parse(planted.data)
    unusable: tuple[dict[str, Any], ...] = (
        {"clock": "nonsense"},
        {"kafka": {**planted.data["kafka"], "pasword": 1}},
        {"serve": []},
    )
    for wrong in unusable:
        with pytest.raises(ConfigError) as caught:
            Config.parse({**planted.data, **wrong})
        assert planted.leaks(str(caught.value)) == []
    for path in list(_paths(planted.data)):
        broken = yaml.safe_load(yaml.safe_dump(planted.data))
        inner = broken
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = [inner[path[-1]]]
        with pytest.raises(ConfigError) as caught:
            Config.parse(broken)
        assert planted.leaks(str(caught.value)) == [], path


def _paths(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        if isinstance(value, str) and "planted-" in value:
            yield (*path, key)
        yield from _paths(value, (*path, key))


class Running:
    """All roles as processes on one configuration, and all that they say."""

    def __init__(self, planted: Planted, directory: Path) -> None:
        self.planted, self.directory = planted, directory
        self.path = directory / "stationkeeper.yaml"
        self.path.write_text(yaml.safe_dump(planted.data))
        self.config = load(self.path, {})
        self.said: dict[str, str] = {}
        self.known = {"authorization": f"Bearer {planted.secrets['http.callers.secret']}"}
        self._ports = {"serve": self.config.serve.port, **{r: getattr(self.config.http, r) for r in ROLES[:-1]}}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for role in ROLES:
            with self.log(role).open("wb") as log:
                self._processes[role] = subprocess.Popen(
                    self._command(role), cwd=self.directory, stdout=log, stderr=subprocess.STDOUT
                )

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(60)

    def log(self, role: str) -> Path:
        return self.directory / f"{role}.log"

    def ask(self, role: str, route: str, body: Any = None, **more: Any) -> str:
        url = f"https://127.0.0.1:{self._ports[role]}{route}"
        context = ssl.create_default_context(cafile=str(self.directory / "http.cert_file"))
        answer = httpx.request("GET" if body is None else "POST", url, json=body, timeout=30, verify=context, **more)
        self.said[f"{role} {route} {sorted(more)}"] = f"{answer.headers} {answer.text}"
        return answer.text

    def tells(self, role: str, words: str, route: str = "/readyz") -> bool:
        assert self._processes[role].poll() is None, self.log(role).read_text()
        try:
            return words in self.ask(role, route, headers=self.known)
        except httpx.TransportError:
            return False

    def verb(self, *words: str) -> None:
        done = subprocess.run(
            self._command(*words), cwd=self.directory, capture_output=True, text=True, timeout=120, check=False
        )
        self.said[" ".join(words)] = done.stdout + done.stderr

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "stationkeeper", *words, "--config", str(self.path)]


def certificate(planted: Planted, directory: Path) -> None:
    """Make the certificate of the HTTP ports, its key under the password that was planted for it."""
    password = planted.secrets["http.tls.key_password_file"]
    made = ["req", "-x509", "-newkey", "rsa:2048", "-passout", f"pass:{password}", "-days", "2", "-subj", "/CN=test"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "http.key_file", "-out", "http.cert_file"]
    openssl(*made, cwd=directory)


@pytest.mark.broker
@pytest.mark.slow
def test_no_answer_page_metric_log_or_verb_shows_one(secured: SecuredBroker, tmp_path: Path) -> None:
    planted = settings(tmp_path, secured)
    certificate(planted, tmp_path)
    secured.add_user("root", planted.secrets["kafka.security.password_file"])
    running = Running(planted, tmp_path)
    prepare_topics(running.config)
    sink = sink_for(running.config.kafka, "adopt")
    commit(sink, adoption(topics_of(running.config), MODEL, "1", round(time.time() * 1_000), by="test"))
    sink.close()
    running.start()
    try:
        # Each of them has failed on an address with a password in it before it is asked.
        until(lambda: running.tells("serve", "could not fetch"), "the router to miss its registry", 180)
        until(lambda: running.tells("monitor", "ok"), "the monitor", 180)
        until(lambda: running.tells("monitor", "did not answer at", "/"), "a page without its peer", 180)
        until(lambda: '"registry_unreachable"' in running.log("deploy").read_text(), "deploy", 180)
        for given in ({}, {"headers": running.known}):
            for role in ROLES:
                for route in ("/readyz", "/livez", "/metrics", "/api/v1/status", "/", "/nothing"):
                    running.ask(role, route, **given)
            running.ask("serve", f"/predict/{MODEL}", {"features": {}}, **given)
            running.ask("serve", f"/v2/models/{MODEL}/infer", {"inputs": []}, **given)
            for route in ("/v2", "/v2/health/ready", f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/ready"):
                running.ask("serve", route, **given)
            for route in (f"/models/{MODEL}", f"/api/v1/models/{MODEL}", "/incidents/x", "/api/v1/incidents/x"):
                running.ask("monitor", route, **given)
    finally:
        running.stop()
    for words in (["check"], ["deployments", "list"], ["requests", "list"], ["explain", "ver-0"]):
        running.verb(*words)
    said = running.said | {f"log of {role}": running.log(role).read_text() for role in ROLES}
    assert all(said.values())
    assert {where: found for where, text in said.items() if (found := planted.leaks(text))} == {}
    assert "could not fetch" in said[f"serve /predict/{MODEL} ['headers']"]
    assert "***@127.0.0.1:1" in said["check"]
