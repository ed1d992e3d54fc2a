"""The Helm chart starts what exists, with a configuration that the program takes, and objects that a cluster takes."""

import json
import re
import subprocess
import sys
import tomllib
from email.message import Message
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from scripts.docs.acls import rights
from stationkeeper.cli import GROUPS, VERBS
from stationkeeper.config import Config, load
from stationkeeper.contracts.topics import dead_letter_topic
from stationkeeper.process.wiring import input_topics, topics_of
from tests.cluster.apiserver import VARIABLE, programs, running
from tests.cluster.definitions import violations
from tests.cluster.helm import (
    CHART,
    KEPT,
    NAMESPACE,
    RENDERED,
    ROOT,
    VALUES,
    Object,
    helm,
    kept,
    objects,
    rendered,
    run,
)
from tests.json_server import JsonServer

ROLES = ("monitor", "retrain", "deploy", "serve")
# The labels of every pod of the release, by the last part of their keys.
RELEASED = {"name": "stationkeeper", "instance": "sk"}
DEFINED = {
    "KafkaTopic": "kafkatopics.kafka.strimzi.io",
    "KafkaUser": "kafkausers.kafka.strimzi.io",
    "PrometheusRule": "prometheusrules.monitoring.coreos.com",
    "ScaledObject": "scaledobjects.keda.sh",
    "ServiceMonitor": "servicemonitors.monitoring.coreos.com",
}
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def program() -> str:
    found = helm()
    if found is None:
        # Debian has no helm, and building one takes minutes: who changes the chart runs `make kube`, `make chart`.
        pytest.skip(f"no helm on PATH or in the folder of {VARIABLE}; make kube builds one")
    return found


def of_kind(found: list[Object], kind: str) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def workloads(found: list[Object]) -> dict[str, Object]:
    made = of_kind(found, "StatefulSet") | of_kind(found, "Deployment")
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in made.values()}


def configuration(found: list[Object], tmp_path: Path, role: str = "monitor") -> Config:
    path = tmp_path / "stationkeeper.yaml"
    path.write_text(of_kind(found, "ConfigMap")["sk-stationkeeper"]["data"]["stationkeeper.yaml"], encoding="utf-8")
    (container,) = workloads(found)[role]["spec"]["template"]["spec"]["containers"]
    return load(path, {one["name"]: one.get("value", "pod-0") for one in container["env"]})


@pytest.mark.parametrize("values", [None, *VALUES])
def test_the_values_are_what_the_schema_says_and_it_knows_each_of_them(values: str | None):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    given = yaml.safe_load((VALUES[values] if values else CHART / "values.yaml").read_text(encoding="utf-8"))
    assert [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(given)] == []
    assert values or set(given) == set(SCHEMA["properties"]) - {"global"}


@pytest.mark.parametrize(
    "wrong", [{"config": {"kafka": {"bootstap": "x"}}}, {"monitr": {}}, {"monitor": {"replica": 3}}], ids=str
)
def test_a_misspelt_value_is_refused(wrong: dict[str, Any]):
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(wrong)


def test_the_chart_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (project["version"],) * 2


@pytest.mark.parametrize("values", VALUES)
def test_every_role_is_started_by_a_verb_and_given_the_time_it_may_take(values: str, tmp_path: Path):
    found = kept(values)
    verbs = {verb.__name__ for verb in VERBS} | GROUPS.keys()
    assert set(workloads(found)) == (set(ROLES) if values == "full" else {"monitor"})
    config = configuration(found, tmp_path)
    for role, made in workloads(found).items():
        pod = made["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["args"] == [role, "--config", "/etc/stationkeeper/stationkeeper.yaml"]
        assert role in verbs
        waits = int(
            container.get("lifecycle", {"preStop": {"exec": {"command": [0]}}})["preStop"]["exec"]["command"][-1]
        )
        assert pod["terminationGracePeriodSeconds"] >= config.drain / 1_000 + waits + 5
        port = config.serve.port if role == "serve" else getattr(config.http, role)
        assert [one["containerPort"] for one in container["ports"]] == [port]
        assert {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness")} == {"/livez"}
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        confined = container["securityContext"]
        assert (confined["readOnlyRootFilesystem"], confined["capabilities"]) == (True, {"drop": ["ALL"]})
        assert pod["securityContext"]["runAsNonRoot"]
        mounted = {one["name"] for one in container["volumeMounts"]}
        claimed = {one["metadata"]["name"] for one in made["spec"].get("volumeClaimTemplates", ())}
        assert mounted == {one["name"] for one in pod["volumes"]} | claimed
    monitor = workloads(found)["monitor"]
    assert monitor["kind"] == "StatefulSet"
    assert monitor["spec"]["serviceName"] in of_kind(found, "Service")


@pytest.mark.parametrize(("values", "role"), [("minimal", "monitor"), *(("full", role) for role in ROLES)])
def test_the_program_takes_the_configuration_of_each_role(values: str, role: str, tmp_path: Path):
    found = kept(values)
    config = configuration(found, tmp_path, role)
    assert config.kafka.instance == "pod-0"
    services = of_kind(found, "Service")
    urls = [*(config.http.peers or {}).values(), *(one.url for one in config.targets if one.url)]
    for url in urls:
        host, port = re.fullmatch(r"http://(?:.*\.)?([a-z-]+):(\d+)", url).groups()  # type: ignore[union-attr]
        assert services[host]["spec"]["ports"][0]["port"] == int(port)
    if values == "minimal":
        assert set(config.http.peers or {}) == {"monitor-0", "monitor-1"}
        assert config.http.unprotected
    else:
        assert set(config.http.peers or {}) == {"monitor-0", "monitor-1", "monitor-2", "retrain", "deploy"}
        # Callers are asked for, so nothing says that nobody is.
        assert not config.http.unprotected
        assert config.kafka.security.username == f"sk-stationkeeper-{role}"
        assert config.kafka.security.mechanism == "SCRAM-SHA-512"


def selected(policy: Object, role: str) -> bool:
    asked = policy["spec"]["podSelector"]
    exact = asked["matchLabels"].get("app.kubernetes.io/component", role) == role
    # NotIn is the one expression that the chart writes; any other must be added here first.
    assert all(one["operator"] == "NotIn" for one in asked.get("matchExpressions", ()))
    return exact and not any(role in one["values"] for one in asked.get("matchExpressions", ()))


def admitted(found: list[Object], role: str) -> list[Any]:
    """Who may connect to a role: what the policies that select its pods allow adds up."""
    chosen = [one for one in of_kind(found, "NetworkPolicy").values() if selected(one, role)]
    return [caller for one in chosen for rule in one["spec"]["ingress"] for caller in rule["from"]]


@pytest.mark.parametrize("values", VALUES)
def test_the_test_of_a_release_asks_every_role_and_says_which_is_not_ready(values: str, tmp_path: Path):
    found = kept(values)
    (container,) = of_kind(found, "Pod")["sk-stationkeeper-test"]["spec"]["containers"]
    script, *urls = container["args"]
    # By the names that the ports answer to: a Service's own name is none of a monitor's.
    config = configuration(found, tmp_path)
    named = [*(config.http.peers or {}).values(), *(target.url for target in config.targets if target.url)]
    assert urls == sorted(f"{url}/readyz" for url in named)
    roles = {re.findall("^sk-stationkeeper-([a-z]+)", str(urlsplit(url).hostname))[0] for url in urls}
    assert roles == set(workloads(found))
    assert container["command"] == ["python", "-c"]
    server = Probes()
    try:
        for path, code in (("/ready", 0), ("/stuck", 1)):
            words = [sys.executable, "-c", script, f"{server.url}/ready", f"{server.url}{path}"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == code, done.stderr
            assert ("the broker is away" in done.stdout) is bool(code)
    finally:
        server.close()


def test_it_asks_serve_also_where_another_target_is_named_and_runs_where_the_monitor_may(program: str, tmp_path: Path):
    targets = '[{"kind": "mlflow-alias"}]'
    for more, allowed in (
        ("{}", ["sk-stationkeeper-serve"]),
        ('{"allowed_hosts": ["a.b"]}', ["a.b", "sk-stationkeeper-serve"]),
    ):
        given = ("--set-json", f"config.targets={targets}", "--set-json", f"config.http={more}")
        found = objects(rendered(program, "full", *given))
        pod = of_kind(found, "Pod")["sk-stationkeeper-test"]["spec"]
        assert "http://sk-stationkeeper-serve:8080/readyz" in pod["containers"][0]["args"]
        # Its port answers to no name that the configuration does not give it.
        config = configuration(found, tmp_path, "serve")
        assert [target.kind for target in config.targets] == ["mlflow-alias"]
        assert list(config.http.allowed_hosts) == allowed
        for key in ("nodeSelector", "tolerations"):
            assert pod[key] == workloads(found)["monitor"]["spec"]["template"]["spec"][key]


class Probes(JsonServer):
    """Two roles: one is ready and one says why it is not."""

    def respond(self, method: str, path: str, headers: Message, body: Any) -> tuple[int, Any]:
        return (200, "ok") if path == "/ready" else (503, "tally: the broker is away")


def test_only_those_named_for_it_may_ask_serve_for_predictions():
    own = {"podSelector": {"matchLabels": {f"app.kubernetes.io/{key}": of for key, of in RELEASED.items()}}}
    metrics = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    full = kept("full")
    assert admitted(full, "serve") == [own, {"podSelector": {"matchLabels": {"app": "payments"}}}, metrics]
    for role in ROLES[:3]:
        assert admitted(full, role) == [own, metrics]


def test_who_may_read_metrics_everywhere_may_not_ask_serve(program: str):
    found = objects(rendered(program, "full", "--set-json", "networkPolicy.metricsFrom=[]"))
    assert {"namespaceSelector": {}} in admitted(found, "monitor")
    assert {"namespaceSelector": {}} not in admitted(found, "serve")
    assert {"podSelector": {"matchLabels": {"app": "payments"}}} in admitted(found, "serve")
    # A role that no policy selects would be open to all.
    found = objects(rendered(program, "full", "--set-json", 'networkPolicy.egress=[{"ports": [{"port": 9092}]}]'))
    for role in ROLES:
        (policy,) = [one["spec"] for one in of_kind(found, "NetworkPolicy").values() if selected(one, role)]
        assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [{"ports": [{"port": 9092}]}])


def test_the_topics_are_those_that_the_roles_would_make(tmp_path: Path):
    found = kept("full")
    config = configuration(found, tmp_path)
    made = {one["spec"]["topicName"]: one["spec"] for one in of_kind(found, "KafkaTopic").values()}
    ours = {topic.name: topic for topic in topics_of(config).all()}
    assert set(made) == set(ours) | {dead_letter_topic(name) for name in input_topics(config)}
    for name, topic in ours.items():
        assert made[name]["partitions"] == topic.partitions
        assert made[name]["config"] == topic.config()


def test_no_two_topics_are_one_object():
    found = [one["metadata"]["name"] for one in kept("full") if one["kind"] == "KafkaTopic"]
    assert len(found) == len(set(found))


def test_topics_whose_names_differ_by_what_a_cluster_forbids_stay_two(program: str, tmp_path: Path):
    topics = ("Fraud_A", "fraud-a", "fraud_a")
    models = {f"m{at}": {"predictions": topic} for at, topic in enumerate(topics)}
    strimzi = {"cluster": "events", "topics": {"enabled": True}}
    written = tmp_path / "values.yaml"
    written.write_text(yaml.safe_dump({"config": {**KAFKA, **REGISTRY, "models": models}, "strimzi": strimzi}))
    done = run(program, "template", "sk", str(CHART), "--values", str(written))
    made = [one for one in yaml.safe_load_all(done.stdout) if one and one["kind"] == "KafkaTopic"]
    ours = {f"{name}.dlq" for name in topics}
    letters = [one["metadata"]["name"] for one in made if one["spec"]["topicName"] in ours]
    assert len(letters) == len(set(letters)) == 3


def test_the_monitor_scales_on_the_lag_of_every_topic_that_the_tally_reads():
    (scaled,) = of_kind(kept("full"), "ScaledObject").values()
    topics = [trigger["metadata"]["topic"] for trigger in scaled["spec"]["triggers"]]
    assert topics == ["churn_scores", "fraud.predictions", "churn.features", "fraud.labels"]


def test_each_user_has_the_rights_of_its_role_and_no_more():
    made = of_kind(kept("full"), "KafkaUser")
    wanted: dict[str, set[Any]] = {}
    for right in rights("drift", ["churn_scores", "fraud.predictions"], ["churn.features", "fraud.labels"]):
        kind = "transactionalId" if right.kind == "transactional-id" else right.kind
        pattern = "prefix" if right.prefixed else "literal"
        wanted.setdefault(right.user, set()).add((kind, right.name, pattern, right.operations))
    assert set(made) == {f"sk-stationkeeper-{user}" for user in (*ROLES, "operator", "reader")}
    for name, one in made.items():
        given = {
            (acl["resource"]["type"], acl["resource"]["name"], acl["resource"]["patternType"], tuple(acl["operations"]))
            for acl in one["spec"]["authorization"]["acls"]
        }
        assert given == wanted[name.rpartition("-")[2]]


def test_what_foreign_definitions_ask_of_our_objects_is_kept():
    rules = {path: yaml.safe_load(path.read_text()) for path in (CHART / "files" / "rules").glob("*.yml")}
    assert len(rules) == 2
    alerts = [
        {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {}, "spec": spec}
        for spec in rules.values()
    ]
    checked = [one for one in chain(kept("full"), alerts) if one["kind"] in DEFINED]
    assert {one["kind"] for one in checked} == set(DEFINED)
    assert [wrong for one in checked for wrong in violations(one, DEFINED[one["kind"]].partition(".")[0])] == []


@pytest.mark.parametrize("values", VALUES)
def test_what_is_kept_is_what_helm_renders(program: str, values: str):
    assert rendered(program, values, *KEPT) == RENDERED[values].read_text(encoding="utf-8"), (
        "make chart renders it again"
    )


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_nothing_wrong(program: str, values: str):
    done = run(program, "lint", "--strict", str(CHART), "--values", str(VALUES[values]))
    assert done.returncode == 0, done.stdout + done.stderr


# The three settings that nobody can guess, each missing once.
KAFKA, REGISTRY = {"kafka": {"bootstrap": "kafka:9092"}}, {"registry": {"tracking_uri": "http://mlflow:5000"}}
MODELS = {"models": {"fraud": {"predictions": "fraud.predictions"}}}
WORKS = {"config": {**KAFKA, **REGISTRY, **MODELS}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "config.models is empty: name at least one model"),
        ({"config": {**REGISTRY, **MODELS}}, "config.kafka.bootstrap is not set"),
        ({"config": {**KAFKA, **MODELS}}, "config.registry.tracking_uri is not set"),
        (
            {"config": {**WORKS["config"], "drain": "1m"}},
            "terminationGracePeriodSeconds is 40, and monitor may take 65 s",
        ),
        ({"config": {**WORKS["config"], "kafka": {"bootstap": "kafka:9092"}}}, "'bootstap' not allowed"),
        ({**WORKS, "strimzi": {"users": {"enabled": True}}}, "strimzi.cluster is not set"),
        (
            {**WORKS, "strimzi": {"users": {"enabled": True}, "cluster": "events", "namespace": "kafka"}},
            "pods cannot mount the Secrets of users from another namespace",
        ),
        ({"config": {**WORKS["config"], "drain": "1 month"}}, "is not a duration"),
    ],
    ids=["models", "kafka", "registry", "drain", "misspelt", "strimzi", "namespace", "duration"],
)
def test_values_that_cannot_work_are_refused_in_words(program: str, tmp_path: Path, values: Any, said: str):
    written = tmp_path / "values.yaml"
    written.write_text(yaml.safe_dump(values), encoding="utf-8")
    done = run(program, "template", "sk", str(CHART), "--values", str(written))
    assert done.returncode != 0
    assert said in done.stderr


def test_rules_and_dashboards_are_those_of_ops(program: str):
    found = objects(rendered(program, "full"))
    for path in (ROOT / "ops" / "prometheus" / "rules").glob("*.yml"):
        assert of_kind(found, "PrometheusRule")[f"sk-stationkeeper-{path.stem}"]["spec"] == yaml.safe_load(
            path.read_text()
        )
    for path in (ROOT / "ops" / "grafana" / "dashboards").glob("*.json"):
        made = of_kind(found, "ConfigMap")[f"sk-stationkeeper-dashboard-{path.stem}"]
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(made["data"][f"stationkeeper-{path.name}"]) == json.loads(path.read_text())


def test_a_real_cluster_takes_every_object_of_it(program: str, tmp_path: Path):
    folder = programs()
    if folder is None:
        pytest.skip(f"{VARIABLE} names no folder with a kube-apiserver; make kube builds one in 15 minutes")
    with running(folder, tmp_path) as api:
        for name in DEFINED.values():
            api.install(name)
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for values in VALUES:
            for one in objects(rendered(program, values)):
                api.create(one, dry_run=True)
        at = ("--kube-apiserver", api.url, "--kube-ca-file", str(api.ca_file), "--kube-token", api.admin_token)
        named = ("sk", str(CHART), "--namespace", NAMESPACE, "--values", str(VALUES["full"]), *at)
        for verb, more in (("install", ()), ("upgrade", ("--set", "serve.replicas=3"))):
            done = run(program, verb, *named, *more)
            assert done.returncode == 0, done.stderr
            # Warnings tell of unknown fields and of old ones; this one is about what the server itself adds.
            warned = [line for line in done.stderr.splitlines() if "Warning" in line and "SessionAffinity" not in line]
            assert warned == []
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/sk-stationkeeper-serve"
        assert api.read(path)["spec"]["replicas"] == 3
