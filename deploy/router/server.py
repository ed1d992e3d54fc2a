"""HTTP around the router: what `predict_route` answers, and beside it metadata, probes and status."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from stationkeeper.contracts.masking import printable
from stationkeeper.deploy.router.predict_route import PredictRoute, refusal
from stationkeeper.deploy.router.refusals import Refusal, Refused
from stationkeeper.deploy.router.router import Router
from stationkeeper.registry import FeatureKind

# The graph takes float32; FP64 would promise digits that the model never sees.
_DATATYPES = {FeatureKind.NUMERIC: "FP32", FeatureKind.BOOLEAN: "BOOL", FeatureKind.CATEGORICAL: "BYTES"}
# Text that a browser may not take for a page: names of models and features come from records.
_TEXT_ONLY = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
# Any value of the right kind: the answer to a copied request shows that the model answers.
_EXAMPLES = {FeatureKind.NUMERIC: 0.0, FeatureKind.BOOLEAN: False, FeatureKind.CATEGORICAL: "text"}
_OFFERED = ("/v2/models/MODEL/infer", "/readyz", "/livez", "/api/v1/status", "/metrics")


class Server:
    """The routes of one router; ``extra`` routes (metrics, a status page) are the composition root's."""

    def __init__(self, router: Router, extra: Sequence[BaseRoute] = ()) -> None:
        self._router = router
        self._predict = PredictRoute(router)
        self.app = self._dispatch
        self._others = Starlette(
            routes=[
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
        self._predict.close()
        await asyncio.to_thread(self._router.close)

    async def _dispatch(self, scope: Any, receive: Any, send: Any) -> None:
        asked = self._predict.asked(scope)
        if asked is None:
            await self._others(scope, receive, send)
        else:
            model, plain = asked
            await self._predict.answer(model, scope, receive, send, plain=plain)

    async def _metadata(self, request: Request) -> Response:
        model = request.path_params["model"]
        try:
            card = self._router.card(model).card
        except Refused as refused:
            return refusal(self._router, model, refused)
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
            # A probe is no request: counted, it would be an error every few seconds while the model is missing.
            body = {"name": model, "ready": False, "error": str(refused), "code": refused.reason.value}
            return JSONResponse(body, refused.status)
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
        return refusal(self._router, "", Refused(Refusal.NO_SUCH_ROUTE, what))


def _overview(router: Router, address: str) -> str:
    reasons = router.readiness()
    lines = [f"stationkeeper serve: {'not ready' if reasons else 'ready'}", ""]
    lines += [f"model {model}: refused, its entry in the configuration is wrong" for model in router.left_alone]
    lines += [""] * bool(router.left_alone)
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
