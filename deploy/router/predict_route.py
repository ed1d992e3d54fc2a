"""The two routes that answer requests, as plain ASGI: a framework's routing costs as much as a small model."""

import asyncio
import time
from functools import partial
from typing import Any

import structlog
from starlette.responses import JSONResponse

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.deploy.router.refusals import HTTP_STATUS, Refusal, Refused
from stationkeeper.deploy.router.router import Router, Served
from stationkeeper.deploy.router.together import Asked, RequestQueue, answer_together
from stationkeeper.streams.errors import Retryable

_log = structlog.get_logger()


def refusal(router: Router, model: str, refused: Refused) -> JSONResponse:
    """Count a refusal and return the answer that says it."""
    router.refused(model, refused.reason)
    body = {"error": str(refused), "code": refused.reason.value}
    if refused.field:
        body["field"] = refused.field
    # What time mends is asked again, after a second: as long as a broker takes to change a leader, or a model to load.
    # Without the header some clients give up at once and others ask in a loop.
    headers = {"retry-after": "1"} if refused.status == HTTP_STATUS[Refusal.OVERLOADED] else {}
    return JSONResponse(body, refused.status, headers=headers)


class PredictRoute:
    """``POST /predict/MODEL`` and ``POST /v2/models/MODEL/infer``."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._waiting = RequestQueue(partial(answer_together, router), router.settings.workers, router.one_version)

    @staticmethod
    def asked(scope: Any) -> tuple[str, bool] | None:
        """Return the model that a request is for, and whether by the plain route; None for any other request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        match scope["path"].split("/"):
            case ["", "predict", model] if model:
                return model, True
            case ["", "v2", "models", model, "infer"] if model:
                return model, False
        return None

    async def answer(self, model: str, scope: Any, receive: Any, send: Any, *, plain: bool) -> None:
        """Answer one request, or refuse it."""
        began = time.perf_counter()
        try:
            given = await self._waiting.ask(Asked(model, await self._body(scope, receive), plain))
            if self._router.settings.ack == "produced":
                await self._logged(given.served)
            self._router.answered(model, given.served, time.perf_counter() - began)
        except Refused as refused:
            await refusal(self._router, model, refused)(scope, receive, send)
            return
        except Exception as error:  # noqa: BLE001 - a caller gets an answer whatever failed, people get the log
            _log.exception(LogEvent.FATAL, model=model)
            failed = Refused(Refusal.FAILED, f"the server failed: {type(error).__name__}; see its log")
            await refusal(self._router, model, failed)(scope, receive, send)
            return
        length = str(len(given.body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": given.body})

    def close(self) -> None:
        """Wait for the answers under way."""
        self._waiting.close()

    async def _logged(self, served: Served) -> None:
        """Wait until the answers are in the log: what was answered and is not there would be lost to everybody."""
        limit = self._router.settings.produce_timeout / 1_000
        logged = asyncio.wrap_future(served.logged)
        # Read by somebody even where it fails after its caller was told: unread it is told as an error of this program.
        logged.add_done_callback(lambda one: one.cancelled() or one.exception())
        # Unlike wait_for it cancels nothing when the time is over, or when the caller goes: the log writes it anyway.
        await asyncio.wait((logged,), timeout=limit)
        if not logged.done():
            raise Refused(
                Refusal.NOT_LOGGED,
                f"the log did not acknowledge within {limit:g} s; send the same event_id again",
            )
        try:
            logged.result()
        except Retryable as error:
            raise Refused(Refusal.NOT_LOGGED, f"{error}; send the same event_id again") from error

    async def _body(self, scope: Any, receive: Any) -> bytes:
        limit = self._router.settings.max_body_bytes
        message = f"the body is larger than {limit} bytes; send smaller batches or raise serve.max_body_bytes"
        # Refused by its stated size before a byte is read; a body without one, or with a false one, is counted as it
        # comes.
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if stated.isdigit() and int(stated) > limit:
            raise Refused(Refusal.TOO_LARGE, message)
        body, more = bytearray(), True
        while more:
            part = await receive()
            if part["type"] == "http.disconnect":
                raise Refused(Refusal.BAD_JSON, "the caller went away before the body ended")
            body += part.get("body", b"")
            if len(body) > limit:
                raise Refused(Refusal.TOO_LARGE, message)
            more = part.get("more_body", False)
        return bytes(body)
