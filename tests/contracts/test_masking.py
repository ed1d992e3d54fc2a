import pytest

from stationkeeper.contracts.masking import masked, names_secret, printable, remember
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
        ("{'Authorization': 'Basic dTpw'}", "{'Authorization': 'Basic ***'}"),
        ("authorization: Bearer abc.def-1 was refused", "authorization: Bearer *** was refused"),
        ("Basic authentication failed", "Basic authentication failed"),
        ("AWS_SECRET_ACCESS_KEY=abc/def", "AWS_SECRET_ACCESS_KEY=***"),
        ("kafka at localhost:9092 does not answer", "kafka at localhost:9092 does not answer"),
        ("request 3f2a of fraud, snapshot sha256:00ff", "request 3f2a of fraud, snapshot sha256:00ff"),
        ("write to ops@bank.example", "write to ops@bank.example"),
        (
            "  kafka.password: unknown key 'password'; allowed: client",
            "  kafka.password: unknown key 'password'; allowed: client",
        ),
        ("http.token: Input should be a valid string", "http.token: Input should be a valid string"),
        ("password: hunter2 was refused", "password: *** was refused"),
        ("password: swordfish, refused", "password: ***, refused"),
        ("password=swordfish was refused", "password=*** was refused"),
    ],
)
def test_credentials_are_masked_and_nothing_else_is(text: str, shown: str):
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize("kind", [Retryable, Fatal])
def test_an_error_of_ours_never_holds_the_password_of_the_address_it_failed_on(kind: type[Exception]):
    assert "hunter2" not in str(kind("https://mlflow:hunter2@registry/api does not answer"))


def test_a_remembered_secret_is_hidden_wherever_a_library_writes_it_and_a_short_one_is_not():
    remember("tr0ub4dor&3 x")
    assert masked("login as me with tr0ub4dor&3 x failed") == "login as me with *** failed"
    assert masked("GET /?p=tr0ub4dor%263%20x") == "GET /?p=***"
    assert masked("password: pearl is wrong") == "password: pearl is wrong", "nobody knows it for a secret"
    remember("pearl")
    assert masked("password: pearl is wrong; a pearl") == "password: *** is wrong; a pearl"
    remember("kafka")
    assert masked("kafka is away") == "kafka is away"


def test_names_of_secrets_are_known_by_their_words():
    assert all(map(names_secret, ("MLFLOW_TRACKING_TOKEN", "api-key", "x-api-key", "db_password", "AWS_SECRET")))
    assert not any(map(names_secret, ("keyed", "bootstrap", "username", "cert_file")))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x00b", r"a\x00b"),
        ("income\n(EUR)", r"income\n(EUR)"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("abc\u202edef", r"abc\u202edef"),
        ("half\ud83d", r"half\ud83d"),
        ("größe 💶 👩\u200d👧 x\u00a0y", "größe 💶 👩\u200d👧 x\u00a0y"),
    ],
)
def test_control_characters_of_a_name_are_spelt_out_and_nothing_else_is(name: str, shown: str):
    assert printable(name) == shown
    assert printable(shown) == shown
