"""The HTTP side of a role process: metrics, probes, the JSON API and the status page, on one port."""

import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from stationkeeper.contracts.metrics import METRICS, Sample
from stationkeeper.events import RefusedModel
from stationkeeper.page.fleet import fleet_page
from stationkeeper.page.fleet_status import Fleet, PeerRoles, RoleView, brief, fresh_samples
from stationkeeper.page.frame import not_found_page
from stationkeeper.page.incident import find_incident, incident_page
from stationkeeper.page.model import model_page, subject_page
from stationkeeper.process.listener import Access, bound, server_for
from stationkeeper.process.telemetry import MAX_SERIES, Telemetry, metrics_route
from stationkeeper.process.wiring import address_of
from stationkeeper.streams.errors import StreamError

if TYPE_CHECKING:
    # The monitor starts without what judges canaries.
    from stationkeeper.deploy.analysis import Analyses

# Uvicorn answers within a fraction of a second. Chosen: half may fail on a busy machine, double delays the error.
START_TIMEOUT_S = 10.0
# The page draws with one style sheet and one script of its own and asks for nothing else, from nowhere else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STATIC = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}


class _AnyName(Convertor[str]):
    """A name as a part of a path, also with slashes and line breaks, which starlette's ``path`` does not take."""

    # A feature is called what its producer calls it: "rate/s" is a name.
    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any_name", _AnyName())


class _Routes:
    """The handlers; plain functions, which starlette runs in its thread pool."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def livez(self, _: Request) -> Response:
        return _probe([(view.role, view.live(), view.reasons()) for view in self._fleet.views])

    def readyz(self, _: Request) -> Response:
        return _probe([(view.role, view.live() and view.ready(), view.reasons()) for view in self._fleet.views])

    def status(self, request: Request) -> Response:
        # A peer asks for `scope=own`: with the whole fleet two roles would ask each other in a circle.
        fleet = self._fleet.own() if _own(request) else self._fleet.whole()
        return JSONResponse({**fleet, "models": [brief(model) for model in fleet["models"]]})

    def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        model = self._fleet.model(name, own=_own(request))
        if model is None:
            known = [m["model"] for m in self._fleet.own()["models"]]
            return JSONResponse({"error": f"no model {name!r} here", "known": known}, status_code=404)
        return JSONResponse(model)

    def incident(self, request: Request) -> Response:
        fleet, name = self._fleet.whole(), request.path_params["incident"]
        found = find_incident(fleet, name)
        if found is None:
            known = [i["id"] for m in fleet["models"] for i in m["incidents"]]
            return JSONResponse({"error": f"no incident {name!r} is known", "known": known}, status_code=404)
        incident, model = found
        full = self._fleet.model(model["model"]) or model
        answer: dict[str, Any] = {
            **incident,
            "subject_status": [s for s in full["subjects"] if s.get("incident") == incident["id"]],
        }
        for request_status in fleet["requests"]:
            if request_status["id"] == incident.get("request"):
                answer["retrain"] = request_status
        for rollout in fleet["rollouts"]:
            if rollout.get("request") is not None and rollout["request"] == incident.get("request"):
                answer["rollout"] = rollout
        return JSONResponse(answer)

    def metrics_list(self, _: Request) -> Response:
        return JSONResponse(
            [{"name": m.name, "kind": m.kind, "unit": m.unit, "labels": m.labels, "help": m.help} for m in METRICS]
        )

    def fleet_page(self, _: Request) -> Response:
        return HTMLResponse(fleet_page(self._fleet.whole()))

    def model_page(self, request: Request) -> Response:
        fleet, name = self._fleet.whole(), request.path_params["model"]
        # Without its plots where whoever judges it does not answer a second time, or says what no page can show.
        model = self._fleet.model(name) or next((one for one in fleet["models"] if one["model"] == name), None)
        if model is None:
            return _missing(f"No model is called {name}.", fleet)
        return HTMLResponse(model_page(model, fleet))

    def subject_page(self, request: Request) -> Response:
        fleet, name, subject = self._fleet.whole(), request.path_params["model"], request.path_params["subject"]
        model = self._fleet.model(name)
        found = [s for s in model["subjects"] if s["name"] == subject] if model else []
        if model is None or not found:
            return _missing(f"Nothing called {subject} is watched for {name}.", fleet)
        return HTMLResponse(subject_page(model, found, fleet))

    def incident_page(self, request: Request) -> Response:
        fleet, name = self._fleet.whole(), request.path_params["incident"]
        found = find_incident(fleet, name)
        if found is None:
            return _missing(f"No incident {name} is known; closed ones are kept for a while only.", fleet)
        incident, model = found
        return HTMLResponse(incident_page(incident, self._fleet.model(model["model"]) or model, fleet))

    def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            return PlainTextResponse("not found", status_code=404)
        text = resources.files("stationkeeper.page").joinpath("static", name).read_bytes()
        return Response(text, headers={"Content-Type": STATIC[name]})


def _own(request: Request) -> bool:
    return request.query_params.get("scope") == "own"


def _missing(sentence: str, fleet: Any) -> Response:
    return HTMLResponse(not_found_page(sentence, fleet), status_code=404)


def _probe(states: Sequence[tuple[str, bool, Sequence[str]]]) -> Response:
    """Answer 200 when every role is well and 503 with the reasons otherwise; no role at all is not well."""
    bad = [f"{role}: {', '.join(reasons) or 'not yet'}" for role, well, reasons in states if not well]
    # A process whose loops have not been made yet must not be sent traffic, nor be taken for well.
    if not states:
        bad = ["no role runs in this process yet"]
    return PlainTextResponse("\n".join(bad or ["ok"]) + "\n", status_code=503 if bad else 200)


class _Analysis:
    """What controllers of others ask (docs/argo-flagger.md): a verdict as JSON, or yes (200) and no (403) to a hook."""

    def __init__(self, analyses: "Analyses") -> None:
        self._analyses = analyses

    def routes(self) -> list[Route]:
        """Return where the questions are asked."""
        hooks = [
            Route(f"/api/v1/analysis/{{model}}/{hook}", partial(self.hook, hook), methods=["GET", "POST"])
            for hook in self._analyses.hooks
        ]
        return [Route("/api/v1/analysis/{model}", self.verdict), *hooks]

    def verdict(self, request: Request) -> Response:
        return self._answered(request, lambda model, asked: JSONResponse(self._analyses.answer(model, **asked)))

    def hook(self, hook: str, request: Request) -> Response:
        def answered(model: str, asked: dict[str, Any]) -> Response:
            yes, why = self._analyses.allows(hook, model, **asked)
            return PlainTextResponse(f"{why}\n", status_code=200 if yes else 403)

        return self._answered(request, answered)

    def _answered(self, request: Request, answered: Callable[[str, dict[str, Any]], Response]) -> Response:
        model, given = request.path_params["model"], request.query_params
        if model not in self._analyses.models:
            body = {"error": f"no model {model!r} is configured", "known": self._analyses.models}
            return JSONResponse(body, status_code=404)
        labels = {"": None, "true": True, "false": False}
        if set(given) - {"champion", "canary", "labels"} or given.get("labels", "") not in labels:
            return JSONResponse({"error": "give champion=, canary=, labels=true or false, or none"}, status_code=400)
        asked: dict[str, Any] = {key: given.get(key) or None for key in ("champion", "canary")}
        asked["labels"] = labels[given.get("labels", "")]
        try:
            return answered(model, asked)
        except StreamError as error:
            # An error of the measurement for Argo, a no for Flagger, which repeats any 5xx at once.
            return JSONResponse({"error": str(error)}, status_code=424)


class _Headers:
    """Adds the security headers to every answer, as plain ASGI."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def telemetry_of(
    fleet: Fleet, more: Callable[[], Sequence[Sample]], *, max_series: int = MAX_SERIES, strict: bool = False
) -> Telemetry:
    """Return the series of a process: those of its loops, what follows from their status, and ``more``."""
    sources: list[Callable[[], Sequence[Sample]]] = [partial(fresh_samples, view) for view in fleet.views]
    return Telemetry([*sources, fleet.samples, more], max_series=max_series, strict=strict)


def create_app(
    views: Sequence[RoleView],
    *,
    peers: PeerRoles | None = None,
    more: Callable[[], Sequence[Sample]] = tuple,
    max_series: int = MAX_SERIES,
    strict: bool = False,
    analyses: "Analyses | None" = None,
    refused: Sequence[RefusedModel] = (),
) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application of a role process.

    ``peers`` are the other processes of the loop, shown on the page; ``more`` samples are those of the process
    itself; ``strict`` makes a sample outside the closed list an error of the scrape (tests) instead of a count.
    ``analyses`` judge the canaries of others' controllers, where this process does; ``refused`` models are told of.
    """
    fleet = Fleet(views, peers, refused)
    routes = _Routes(fleet)
    app = Starlette(
        routes=[
            metrics_route(telemetry_of(fleet, more, max_series=max_series, strict=strict)),
            Route("/livez", routes.livez),
            Route("/readyz", routes.readyz),
            Route("/api/v1/status", routes.status),
            Route("/api/v1/models/{model}", routes.model),
            Route("/api/v1/incidents/{incident}", routes.incident),
            Route("/api/v1/metrics-list", routes.metrics_list),
            Route("/static/{name}", routes.static),
            Route("/", routes.fleet_page),
            Route("/models/{model}", routes.model_page),
            Route("/models/{model}/subjects/{subject:any_name}", routes.subject_page),
            Route("/incidents/{incident}", routes.incident_page),
            *([] if analyses is None else _Analysis(analyses).routes()),
        ]
    )
    return _Headers(app)


class WebServer:
    """Uvicorn in a thread of its own; the loop of the role never waits for a reader."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        host: str = "127.0.0.1",
        port: int = 0,
        access: Access | None = None,
    ) -> None:
        access = access or Access()
        self._scheme = "https" if access.settings.tls else "http"
        self._server = server_for(app, access)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._socket = bound(host, port, "http:")
        self.host = host
        self.port = int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Return the address to open; with port 0 asked for, the port that was taken."""
        return address_of(self.host, self.port, self._scheme)

    def start(self) -> None:
        """Begin to serve and return when requests are answered; raises ``RuntimeError`` if that does not happen."""
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"the web server did not start on {self.host}:{self.port}")
            # The server listens within milliseconds, and each role's start waits for it.
            time.sleep(0.005)

    def stop(self) -> None:
        """End serving; open requests get a second."""
        self._server.should_exit = True
        # The open requests' second, and what a busy machine needs besides; the process ends anyway.
        self._thread.join(timeout=5.0)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])
