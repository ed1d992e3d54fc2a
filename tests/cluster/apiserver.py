"""A real Kubernetes API server and its store, without a cluster: no controllers, no nodes, no root.

``STATIONKEEPER_KUBE_BIN`` names the folder that ``make kube`` fills. Callers are known by token and held by RBAC, so
that the rights which docs/targets.md asks for are the rights that are enough.
"""

import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.cluster.definitions import definition
from tests.secured import openssl
from tests.waiting import until

VARIABLE = "STATIONKEEPER_KUBE_BIN"
DOCS = Path(__file__).parents[2] / "docs" / "targets.md"
Object = dict[str, Any]


def programs() -> Path | None:
    """Return the folder of the programs, None where nobody built them."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named and (Path(named) / "kube-apiserver").exists() else None


class ApiServer:
    """The server as its administrator and as the controllers of a cluster see it; ``deploy`` is our own caller."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self.url, self.ca_file = url, ca_file
        self.deploy_token, self.admin_token = "deploy-token-of-the-test", "admin-token-of-the-test"
        headers = {"authorization": f"Bearer {self.admin_token}"}
        self._http = httpx2.Client(
            base_url=url, verify=ssl.create_default_context(cafile=ca_file), headers=headers, timeout=30
        )

    def ready(self) -> bool:
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx2.HTTPError:
            return False

    def install(self, name: str) -> None:
        """Create a definition and wait until its objects are served."""
        self._sent("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(name))
        plural, _, group = name.partition(".")
        until(lambda: self._http.get(f"/apis/{group}").status_code == 200, f"{name} is served")
        version = definition(name)["spec"]["versions"][0]["name"]
        until(lambda: self._http.get(f"/apis/{group}/{version}/{plural}").status_code == 200, f"{name} is served")

    def create(self, document: Object, *, dry_run: bool = False) -> str:
        """Create an object, unknown fields refused, and return its path; ``dry_run`` has it judged and not kept."""
        root = "api" if "/" not in document["apiVersion"] else "apis"
        scope = f"/namespaces/{document['metadata']['namespace']}" if "namespace" in document["metadata"] else ""
        kind = document["kind"].lower()
        # The plural of the kinds that the tests use.
        plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
        path = f"/{root}/{document['apiVersion']}{scope}/{plural}"
        self._sent("POST", f"{path}?fieldValidation=Strict{'&dryRun=All' if dry_run else ''}", document)
        return f"{path}/{document['metadata']['name']}"

    def allow_deploy(self, names: list[str]) -> None:
        """Give our caller the rights that docs/targets.md asks for, in its namespace, for objects of these names."""
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "scoring"}})
        written = re.findall(r"```yaml\n(apiVersion: rbac.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
        role: Any = yaml.safe_load(written[0])
        for rule in role["rules"]:
            rule.get("resourceNames", []).extend(names)
        self.create(role)
        group = {"apiGroup": "rbac.authorization.k8s.io"}
        self.create(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "deploy", "namespace": "scoring"},
                "roleRef": {**group, "kind": "Role", "name": role["metadata"]["name"]},
                "subjects": [{**group, "kind": "User", "name": "deploy"}],
            }
        )

    def read(self, path: str) -> Object:
        return self._sent("GET", path)

    def patch(self, path: str, body: Object) -> None:
        """Change an object as somebody else with kubectl does."""
        self._sent("PATCH", f"{path}?fieldManager=kubectl-edit", body)

    def status(self, path: str, status: Object) -> None:
        """Write a status, as a controller does."""
        self._sent("PATCH", f"{path}/status?fieldManager=controller", {"status": status})

    def managers(self, path: str) -> set[str]:
        """Return who has written an object."""
        return {one["manager"] for one in self.read(path)["metadata"]["managedFields"]}

    def close(self) -> None:
        self._http.close()

    def _sent(self, method: str, path: str, body: Object | None = None) -> Object:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        answer = self._http.request(method, path, json=body, headers={"content-type": kind})
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: Object = answer.json()
        return found


@contextmanager
def running(folder: Path, work: Path) -> Iterator[ApiServer]:
    """Run store and server in a folder until the block ends."""
    store, peer, port = _free_port(), _free_port(), _free_port()
    tokens = "admin-token-of-the-test,admin,1,system:masters\ndeploy-token-of-the-test,deploy,2\n"
    (work / "tokens.csv").write_text(tokens, encoding="utf-8")
    openssl("genrsa", "-out", "key.pem", "2048", cwd=work)
    at = f"http://127.0.0.1:{store}"
    peers = f"http://127.0.0.1:{peer}"
    etcd = [
        folder / "etcd",
        f"--data-dir={work / 'etcd'}",
        f"--listen-client-urls={at}",
        f"--advertise-client-urls={at}",
    ]
    etcd += [
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
    ]
    server = [folder / "kube-apiserver", f"--etcd-servers={at}", "--bind-address=127.0.0.1", f"--secure-port={port}"]
    server += [f"--cert-dir={work}", f"--token-auth-file={work / 'tokens.csv'}", "--authorization-mode=RBAC"]
    server += [f"--service-account-{use}={work / 'key.pem'}" for use in ("key-file", "signing-key-file")]
    server += ["--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.0.0.0/24"]
    server += ["--disable-admission-plugins=ServiceAccount"]
    with (
        (work / "etcd.log").open("w") as etcd_log,
        (work / "server.log").open("w") as server_log,
        _process([str(one) for one in [*etcd, "--unsafe-no-fsync"]], etcd_log),
        _process([str(one) for one in server], server_log),
    ):
        certificate = work / "apiserver.crt"
        until(certificate.exists, "the server has made its certificate")
        api = ApiServer(f"https://127.0.0.1:{port}", certificate)
        until(api.ready, f"the API server is ready; see {work}/server.log", 120)
        try:
            yield api
        finally:
            api.close()


@contextmanager
def _process(command: list[str], log: Any) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
