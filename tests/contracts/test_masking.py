import pytest

from stationkeeper.contracts.masking import masked
from stationkeeper.streams.errors import Fatal, Retryable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@host/x?token=t", "https://***@host/x?token=***"),
        (
            "postgresql+psycopg://mlflow:s3/cr@et@db:5432/mlflow is away",
            "postgresql+psycopg://***@db:5432/mlflow is away",
        ),
        ("sasl.password=hunter2, retrying", "sasl.password=***, retrying"),
        ('{"api_key": "abc"}', '{"api_key": "***"}'),
        ("AWS_SECRET_ACCESS_KEY=abc/def", "AWS_SECRET_ACCESS_KEY=***"),
        ("kafka at localhost:9092 does not answer", "kafka at localhost:9092 does not answer"),
        ("request 3f2a of fraud, snapshot sha256:00ff", "request 3f2a of fraud, snapshot sha256:00ff"),
        ("write to ops@bank.example", "write to ops@bank.example"),
    ],
)
def test_credentials_are_masked_and_nothing_else_is(text: str, shown: str):
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize("kind", [Retryable, Fatal])
def test_an_error_of_ours_never_holds_the_password_of_the_address_it_failed_on(kind: type[Exception]):
    assert "hunter2" not in str(kind("https://mlflow:hunter2@registry/api does not answer"))
