"""docker-compose.yml and the Dockerfile agree with each other, with ops/ and with the project."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("monitor", "retrain", "deploy", "serve")
OUTSIDE = ("kafka", "mlflow", "prometheus", "alertmanager", "grafana")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def configuration() -> Any:
    return yaml.safe_load((ROOT / "ops" / "stationkeeper.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_stack_is_whole(compose):
    assert set(compose["services"]) == {*ROLES, *OUTSIDE, "story"}
    assert compose["services"]["story"]["profiles"] == ["story"]  # up starts it not


@pytest.mark.parametrize("name", [*ROLES, *OUTSIDE])
def test_every_service_is_checked_pinned_and_local(compose, name):
    service = compose["services"][name]
    assert service["healthcheck"]["test"]
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert re.fullmatch(r"v?\d+(\.\d+)+", tag), f"{service['image']} has no exact version"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "privileged" not in service
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]


def test_no_password_stands_in_the_file(compose):
    named = [key for service in compose["services"].values() for key in service.get("environment", ())]
    assert [key for key in named if "PASSWORD" in key] == []


def test_what_is_mounted_and_waited_for_exists(compose):
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            exists = (ROOT / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert exists, f"{name} mounts {source}, which is not there"
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert other in compose["services"]


@pytest.mark.parametrize("name", ROLES)
def test_a_role_is_confined(compose, name):
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["command"][0] == name
    assert "/etc/stationkeeper/stationkeeper.yaml" in service["command"]


def test_roles_listen_where_probes_scrapes_and_published_ports_expect(compose, configuration):
    ports = {**configuration["http"], "serve": configuration["serve"]["port"]}
    assert configuration["http"]["host"] == configuration["serve"]["host"] == "0.0.0.0"
    prometheus = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = (job for job in prometheus["scrape_configs"] if job["job_name"] == "stationkeeper")
    scraped = {target for static in job["static_configs"] for target in static["targets"]}
    assert scraped == {f"{role}:{ports[role]}" for role in ROLES}
    for role in ROLES:
        service = compose["services"][role]
        assert f":{ports[role]}/" in service["environment"]["HEALTH_URL"]
        assert service["ports"] == [f"127.0.0.1:{ports[role]}:{ports[role]}"]


def test_every_role_runs_the_image_of_this_version(compose):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for name in (*ROLES, "mlflow", "story"):
        target = "monitor" if name == "monitor" else "full"
        service = compose["services"][name]
        assert service["build"]["target"] == target
        assert service["image"] == f"stationkeeper{'-monitor' if name == 'monitor' else ''}:{version}"
        assert service["build"]["args"]["REVISION"] == "${REVISION:-unknown}"


def test_an_image_says_its_version_and_commit(dockerfile):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="(.*?)"', dockerfile))
    assert (labels["version"], labels["revision"]) == (version, "${REVISION}")
    # An argument is empty in a stage that does not name it.
    assert "\nARG REVISION=unknown\n" in dockerfile.partition("AS run\n")[2].partition("LABEL")[0].join("\n\n")


def test_the_image_has_what_a_configuration_of_its_roles_may_ask_for():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    # DVC wants git, librdkafka is the second client, LightGBM a library of the system (docs/retraining.md tells the
    # layer that adds it); the others are for people at a terminal.
    left_out = {"dvc", "librdkafka", "lightgbm", "broker", "demo", "plots", "river"}
    lock = (ROOT / "requirements" / "image.txt").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([\w.-]+)(?:\[.*?\])?==", lock, re.MULTILINE))
    for extra in extras.keys() - left_out:
        wanted = {re.split(r"[^\w.-]", one)[0] for one in extras[extra]} - {"stationkeeper"}
        assert wanted <= locked, f"requirements/image.txt lacks {wanted - locked} of the extra {extra}; say `make lock`"


def test_the_configuration_names_the_services(compose, configuration):
    host, port = configuration["kafka"]["bootstrap"].split(":")
    assert f"INSIDE://{host}:{port}" in compose["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    registry = configuration["registry"]["tracking_uri"].removeprefix("http://")
    (allowed,) = (word for word in compose["services"]["mlflow"]["command"] if word.startswith("--allowed-hosts="))
    assert registry in allowed.partition("=")[2].split(",")


def test_the_image_holds_every_package_and_nothing_unhashed(dockerfile):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for package in packages:
        assert re.search(rf"^COPY {package} {package}$", dockerfile, re.MULTILINE)
        assert f"!{package}" in ignore
    installs = re.findall(r"pip install (.*?)(?: \\)?$", dockerfile, re.MULTILINE)
    assert len(installs) == 5
    assert "uv build --wheel --build-constraint requirements/build.txt" in dockerfile
    ours = "--no-deps /dist/*.whl"
    assert all("--require-hashes" in words or words == ours for words in installs)


def test_the_images_run_as_a_numbered_user_and_hold_no_build_tools(dockerfile):
    stages = {
        re.split(r" AS |\n", stage)[1]: stage for stage in re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[1:]
    }
    (user,) = re.findall(r"^USER (\d+):\d+$", stages["run"], re.MULTILINE)
    assert int(user) > 0
    for image in ("monitor", "full"):
        assert stages[
            image
        ] == f"run AS {image}\nCOPY --from={image}-environment /opt/stationkeeper /opt/stationkeeper\n" + (
            "\n" if image == "monitor" else ""
        )


def test_nothing_but_the_base_is_pulled_to_build(dockerfile):
    made = set(re.findall(r" AS ([a-z-]+)$", dockerfile, re.MULTILINE))
    pulled = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) - made
    assert pulled == {"python:${PYTHON}-slim"}
    assert "# syntax=" not in dockerfile.splitlines()[0]


def test_docker_reads_the_file():
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode
    ):
        pytest.skip("docker with its compose plugin is not installed; no package archive of Debian 12 holds it")
    result = subprocess.run(
        ["docker", "compose", "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
