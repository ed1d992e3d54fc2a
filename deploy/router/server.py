"""HTTP around the router: the plain JSON route, KServe v2, probes and status."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.masking import printable
from stationkeeper.deploy.router.answers import infer_body, plain_body
from stationkeeper.deploy.router.refusals import HTTP_STATUS, Refusal, Refused
from stationkeeper.deploy.router.requests import Rows, parse_infer, parse_plain
from stationkeeper.deploy.router.router import Router, Served
from stationkeeper.deploy.router.traffic import wall_ms
from stationkeeper.registry import FeatureKind
from stationkeeper.streams.errors import Retryable

_log = structlog.get_logger()
# The graph takes float32; FP64 would promise digits that the model never sees.
_DATATYPES = {FeatureKind.NUMERIC: "FP32", FeatureKind.BOOLEAN: "BOOL", FeatureKind.CATEGORICAL: "BYTES"}
_JSON = "application/json"
# Text that a browser may not take for a page: names of models and features come from records.
_TEXT_ONLY = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
# Any value of the right kind: the answer to a copied request shows that the model answers.
_EXAMPLES = {FeatureKind.NUMERIC: 0.0, FeatureKind.BOOLEAN: False, FeatureKind.CATEGORICAL: "text"}
_OFFERED = ("/v2/models/MODEL/infer", "/readyz", "/livez", "/api/v1/status", "/metrics")


class Server:
    """The routes of one router; ``extra`` routes (metrics, a status page) are the composition root's."""

    def __init__(self, router: Router, extra: Sequence[BaseRoute] = ()) -> None:
        self._router = router
        # Scoring holds its thread for milliseconds and would hold the event loop, and with it the probes.
        self._workers = ThreadPoolExecutor(router.settings.workers, thread_name_prefix="predict")
        self.app = Starlette(
            routes=[
                Route("/predict/{model}", self._plain, methods=["POST"]),
                Route("/v2/models/{model}/infer", self._infer, methods=["POST"]),
                Route("/v2/models/{model}", self._metadata),
                Route("/v2/models/{model}/ready", self._model_ready),
                Route("/v2", self._about),
                Route("/v2/health/live", self._live),
                Route("/v2/health/ready", self._ready),
                Route("/", self._overview),
                Route("/livez", self._live),
                Route("/readyz", self._ready),
                Route("/api/v1/status", self._status),
                *extra,
            ],
            # The framework's own answer to a mistyped path is a bare text that names no route.
            exception_handlers={404: self._no_route, 405: self._no_route},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._router.start()
        yield
        # First the answers under way, then the log that they go to: the other way round the last ones would be refused.
        self._workers.shutdown(wait=True)
        await asyncio.to_thread(self._router.close)

    async def _plain(self, request: Request) -> Response:
        def work(body: bytes) -> tuple[Rows, str | None]:
            return parse_plain(body, wall_ms()), None

        return await self._answer(request, work, plain=True)

    async def _infer(self, request: Request) -> Response:
        def work(body: bytes) -> tuple[Rows, str | None]:
            return parse_infer(body, wall_ms())

        return await self._answer(request, work, plain=False)

    async def _answer(self, request: Request, parse: Any, *, plain: bool) -> Response:
        model = request.path_params["model"]
        try:
            body = await self._body(request)

            def work() -> tuple[Served, bytes]:
                rows, request_id = parse(body)
                served = self._router.predict(model, rows)
                if plain:
                    return served, plain_body(model, served.answers, single=rows.single)
                return served, infer_body(model, served.answers, request_id)

            served, answer = await asyncio.get_running_loop().run_in_executor(self._workers, work)
            if self._router.settings.ack == "produced":
                await self._logged(served)
            self._router.answered(model, served)
        except Refused as refused:
            return self._refuse(model, refused)
        except Exception as error:  # noqa: BLE001 - a caller gets an answer whatever failed, people get the log
            _log.exception(LogEvent.FATAL, model=model)
            return self._refuse(
                model, Refused(Refusal.FAILED, f"the server failed: {type(error).__name__}; see its log")
            )
        return Response(answer, media_type=_JSON)

    async def _logged(self, served: Served) -> None:
        """Wait until the answers are in the log: what was answered and is not there would be lost to everybody."""
        limit = self._router.settings.produce_timeout / 1_000
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(served.logged)), limit)
        except TimeoutError:
            raise Refused(
                Refusal.NOT_LOGGED,
                f"the log did not acknowledge within {limit:g} s; send the same event_id again",
            ) from None
        except Retryable as error:
            raise Refused(Refusal.NOT_LOGGED, f"{error}; send the same event_id again") from error

    async def _body(self, request: Request) -> bytes:
        limit = self._router.settings.max_body_bytes
        message = f"the body is larger than {limit} bytes; send smaller batches or raise serve.max_body_bytes"
        # Refused by its stated size before a byte is read; a body without one, or with a false one, is counted as it
        # comes.
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > limit:
            raise Refused(Refusal.TOO_LARGE, message)
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Refused(Refusal.TOO_LARGE, message)
        except ClientDisconnect:
            raise Refused(Refusal.BAD_JSON, "the caller went away before the body ended") from None
        return bytes(body)

    def _refuse(self, model: str, refused: Refused) -> Response:
        self._router.refused(model, refused.reason)
        body = {"error": str(refused), "code": refused.reason.value}
        if refused.field:
            body["field"] = refused.field
        # What time mends is asked again; without the header some clients give up at once and others hammer.
        headers = {"retry-after": "1"} if refused.status == HTTP_STATUS[Refusal.OVERLOADED] else {}
        return JSONResponse(body, refused.status, headers=headers)

    async def _metadata(self, request: Request) -> Response:
        model = request.path_params["model"]
        try:
            card = self._router.card(model).card
        except Refused as refused:
            return self._refuse(model, refused)
        return JSONResponse(
            {
                "name": model,
                "versions": self._router.traffic.status(model)["loaded"],
                "platform": "onnx",
                "inputs": [{"name": f.name, "datatype": _DATATYPES[f.kind], "shape": [-1]} for f in card.features],
                "outputs": [
                    {"name": "prediction", "datatype": "FP64", "shape": [-1]},
                    *(
                        {"name": n, "datatype": "BYTES", "shape": [-1]}
                        for n in ("action", "version", "arm", "event_id")
                    ),
                ],
            }
        )

    async def _model_ready(self, request: Request) -> Response:
        model = request.path_params["model"]
        try:
            self._router.card(model)
        except Refused as refused:
            return self._refuse(model, refused)
        return JSONResponse({"name": model, "ready": True})

    async def _about(self, _request: Request) -> Response:
        return JSONResponse({"name": "stationkeeper", "version": "2", "extensions": []})

    async def _live(self, _request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, _request: Request) -> Response:
        reasons = self._router.readiness()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def _status(self, _request: Request) -> Response:
        return JSONResponse(self._router.status())

    async def _overview(self, request: Request) -> Response:
        """Answer a person who opens the address: what is served, what is missing, and a request to copy."""
        return PlainTextResponse(_overview(self._router, str(request.base_url)), headers=_TEXT_ONLY)

    async def _no_route(self, request: Request, _error: Exception) -> Response:
        what = f"{request.method} {request.url.path} is not offered; POST /predict/MODEL or /v2/models/MODEL/infer"
        return self._refuse("", Refused(Refusal.NO_SUCH_ROUTE, what))


def _overview(router: Router, address: str) -> str:
    reasons = router.readiness()
    lines = [f"stationkeeper serve: {'not ready' if reasons else 'ready'}", ""]
    for model in router.models:
        traffic = router.traffic.get(model)
        if traffic is None:
            lines += [f"model {model}: {router.missing(model)}", ""]
            continue
        shown = router.traffic.status(model)
        canary = f", canary {shown['canary']} with {shown['weight_bp'] / 100:g} %" if shown["canary"] else ""
        features = {spec.name: _EXAMPLES[spec.kind] for spec in traffic.champion.card.features}
        body = shlex.quote(json.dumps({"features": features}, ensure_ascii=False))
        lines += [
            f"model {model}: champion {shown['champion']}{canary}",
            f"  curl -d {body} {address}predict/{model}",
            "",
        ]
    lines += [f"also here: {', '.join(_OFFERED)}"]
    return "\n".join(printable(line) for line in lines) + "\n"
