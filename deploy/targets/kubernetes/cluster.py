"""One cluster's API as a target uses it: an object is read, and patched only as it was when it was read."""

import re
from typing import Any

from stationkeeper.contracts.settings import Settings
from stationkeeper.deploy.settings import TargetSettings
from stationkeeper.streams.errors import Retryable

# Who wrote a field, as ``kubectl get --show-managed-fields`` tells it.
FIELD_MANAGER = "stationkeeper"
# For an unknown field the server repeats the whole object, with all of its environment, in quotes before the reason.
# Two hundred letters are longer than any name or value that a reason quotes, and shorter than any object.
_REPEATED = re.compile(r'"(?:[^"\\]|\\.){200,}"')


class ClusterOptions(Settings):
    """Which cluster and namespace; left out, those of the pod's service account or of the kubeconfig."""

    namespace: str | None = None
    context: str | None = None


class Cluster:
    """The API server of one cluster; every call raises ``Retryable`` with the server's own sentence when it fails.

    With ``url`` it is asked there, with ``token`` and ``ca_file``. Without, the way in is the pod's service account
    (its token is read again when it was rotated), else ``KUBECONFIG`` or ``~/.kube/config``. A pod needs the right to
    get and patch the one object, and to get the Services that a route names (docs/targets.md).
    """

    def __init__(self, settings: TargetSettings, options: ClusterOptions) -> None:
        try:
            import httpx2
            from lightkube.config.client_adapter import Client, ConnectionParams
            from lightkube.config.kubeconfig import KubeConfig
            from lightkube.config.models import Cluster as Server
            from lightkube.config.models import User
            from lightkube.core.exceptions import ConfigError
        except ImportError:
            raise ValueError(
                f"targets: {settings.kind} needs the extra kubernetes: pip install 'stationkeeper[kubernetes]'"
            ) from None
        self._failed = httpx2.HTTPError
        try:
            if settings.url is None:
                config = KubeConfig.from_env().get(options.context)
            else:
                token = settings.token.read("targets.token") if settings.token else None
                ca_file = str(settings.ca_file) if settings.ca_file else None
                # A plain address (kubectl proxy) has no certificate, and reading the system's list takes its time.
                plain = settings.url.startswith("http:")
                server = Server(server=settings.url, certificate_auth=ca_file, insecure=plain)
                config = KubeConfig.from_one(cluster=server, user=User(token=token)).get()
            if config is None or config.user is None:
                raise ValueError(f"targets: {settings.kind}: the kubeconfig's context names no user")
            timeout = httpx2.Timeout(settings.timeout / 1_000)
            # A proxy of the environment is for the way out; the cluster's API is not there.
            self._http = Client(config, ConnectionParams(timeout=timeout, trust_env=False))
        except (ConfigError, OSError) as error:
            raise ValueError(
                f"targets: {settings.kind}: no way into a cluster: {error}; run in a pod, set KUBECONFIG, or write url:"
            ) from None
        self.namespace = options.namespace or config.namespace

    def read(self, path: str) -> dict[str, Any] | None:
        """Return an object, None where there is none of that name."""
        status, body = self._call("GET", path)
        # The server answers a kind that it does not have in plain text, and a missing object as a Status.
        if status == 404 and body.get("kind") == "Status":
            return None
        if status == 404:
            raise Retryable(f"the cluster does not know {path}: its definition (CRD) is not installed")
        if status != 200:
            raise Retryable(f"the cluster answers GET {path} with {status}: {_reason(body)}")
        return body

    def patch(self, path: str, body: dict[str, Any]) -> bool:
        """Merge a patch into an object (RFC 7386); False where it has changed since its ``resourceVersion`` was read.

        An unknown field is refused, not dropped in silence as the server would do by default.
        """
        query = f"fieldManager={FIELD_MANAGER}&fieldValidation=Strict"
        status, answer = self._call("PATCH", f"{path}?{query}", body)
        if status == 409:
            return False
        if status != 200:
            raise Retryable(f"the cluster refuses to change {path} ({status}): {_reason(answer)}")
        return True

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        headers = {"content-type": "application/merge-patch+json"} if body is not None else {}
        try:
            answer = self._http.request(method, path, json=body, headers=headers)
            found = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else {}
        except (self._failed, OSError, ValueError) as error:
            raise Retryable(f"the cluster's API does not answer: {error}") from error
        return answer.status_code, found


def _reason(status: dict[str, Any]) -> str:
    return _REPEATED.sub('"…"', str(status.get("message", "no reason")))
