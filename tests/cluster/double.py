"""A double of an API server: one object store over HTTP that judges documents by the definitions' own schemas.

It does what the targets rely on: strict fields, merge patches, 409 for an object that has changed, a Status for one
that is missing, plain text for a kind that nobody installed. ``react`` plays the controllers: it is called after each
change of a spec with the object, and returns its new status.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stationkeeper.deploy.targets.kubernetes.objects import merged
from tests.cluster.definitions import defaulted, schema_of, violations

Object = dict[str, Any]
# Kinds that come with every cluster and are only looked up here.
_BUILT_IN = frozenset({"services"})


class Double(ThreadingHTTPServer):
    """Objects by path; ``patches`` are those that were taken, ``raced`` is called once between a read and a patch,
    ``refused`` is what an admission says against every patch.
    """

    def __init__(self, react: Callable[[Object], Object | None] = lambda _: None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, Object] = {}
        self.installed = {"httproutes", "inferenceservices", *_BUILT_IN}
        self.patches: list[Object] = []
        self.raced: Callable[[], None] | None = None
        self.refused = ""
        self.react, self._version = react, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def create(self, document: Object) -> str:
        """Store an object and return its path."""
        group, version = document["apiVersion"], document["apiVersion"].rpartition("/")[2]
        plural = f"{document['kind'].lower()}s"
        if plural not in _BUILT_IN:
            assert not violations(document, plural)
            document = defaulted(document, schema_of(f"{plural}.{group.rpartition('/')[0]}", version))
        root = "api" if "/" not in group else "apis"
        name = document["metadata"]["name"]
        path = f"/{root}/{group}/namespaces/{document['metadata']['namespace']}/{plural}/{name}"
        self.objects[path] = document
        self.touch(path)
        return path

    def touch(self, path: str) -> None:
        """Count a change of an object, and let its controllers see it."""
        found = self.objects[path]
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        status = self.react(found)
        if status is not None:
            found["status"] = status

    def read(self, path: str) -> Object:
        return self.objects[path]

    def patch(self, path: str, body: Object) -> None:
        """Change an object as somebody else with kubectl does."""
        self.objects[path] = merged(self.objects[path], body)
        self.touch(path)


class _Handler(BaseHTTPRequestHandler):
    server: Double
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: in two, each answer waits 40 ms for an acknowledgement.
    wbufsize = -1

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.split("/")[-2] not in self.server.installed:
            self._answer(404, "404 page not found", "text/plain")
        elif path in self.server.objects:
            self._answer(200, self.server.objects[path])
        else:
            self._status(404, f"{path} not found")

    def do_PATCH(self) -> None:
        target, server = urlsplit(self.path), self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["content-type"] == "application/merge-patch+json"
        assert parse_qs(target.query) == {"fieldManager": ["stationkeeper"], "fieldValidation": ["Strict"]}
        if server.raced is not None:
            raced, server.raced = server.raced, None
            raced()
        found = server.objects[target.path]
        if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            self._status(409, "the object has been modified; please apply your changes to the latest version")
            return
        plural, (group, version) = target.path.split("/")[-2], found["apiVersion"].split("/")
        changed = defaulted(merged(found, body), schema_of(f"{plural}.{group}", version))
        wrong = [server.refused] if server.refused else violations(changed, plural)
        if wrong:
            self._status(422, "; ".join(wrong))
            return
        server.objects[target.path] = changed
        server.patches.append(body)
        server.touch(target.path)
        self._answer(200, changed)

    def _status(self, code: int, message: str) -> None:
        self._answer(code, {"kind": "Status", "status": "Failure", "message": message, "code": code})

    def _answer(self, code: int, body: Any, kind: str = "application/json") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output quiet."""


@contextmanager
def running(double: Double) -> Iterator[Double]:
    """Serve until the block ends."""
    thread = threading.Thread(target=double.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        double.shutdown()
        double.server_close()
