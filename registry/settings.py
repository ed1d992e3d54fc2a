"""What the configuration says of the model registry."""

from typing import Annotated

from pydantic import Field

from stationkeeper.contracts.settings import Duration, Settings


class RegistrySettings(Settings):
    """The MLflow tracking and registry server, or a database URI such as ``sqlite:///mlflow.db``.

    ``artifact_root`` (a directory or URI) is where a database-backed registry keeps its files; a server decides for
    itself. ``timeout`` bounds one HTTP request, ``retries`` its repetition.
    """

    tracking_uri: Annotated[str, Field(min_length=1)] = "sqlite:///mlflow.db"
    experiment: Annotated[str, Field(min_length=1)] = "stationkeeper"
    artifact_root: str | None = None
    timeout: Annotated[Duration, Field(ge=1_000)] = 10_000
    retries: Annotated[int, Field(ge=0, le=10)] = 1
