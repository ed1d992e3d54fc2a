"""The metrics route of the router process, rendered like every other role's."""

from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.metrics import Sample
from stationkeeper.telemetry import Telemetry


def metrics_route(samples: Callable[[], Sequence[Sample]]) -> Route:
    """Return the route ``/metrics``."""
    telemetry = Telemetry([samples])

    def metrics(request: Request) -> Response:
        body, content_type = telemetry.render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return Route("/metrics", metrics)
