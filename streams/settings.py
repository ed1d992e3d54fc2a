"""How Stationkeeper talks to Kafka: one frozen block of configuration for every role."""

import importlib.util
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from stationkeeper.contracts.settings import Duration, Secret, SettingError, Settings, read_secret, secret_variable

# Bytes.
MIB = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _one_line(value: object) -> object:
    return ",".join(str(part) for part in value) if isinstance(value, list | tuple) else value


# Kafka takes topic names of 249 characters: 200 leave 49 for what we put behind a prefix, at most half of it today.
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=f"^{_NAME.pattern}$")]
Share = Annotated[float, Field(gt=0.0, le=1.0)]


class _Block(Settings):
    # Inputs are hidden in errors because one of them may be a password.
    model_config = ConfigDict(hide_input_in_errors=True)


class SecuritySettings(_Block):
    """What the brokers ask of a client: TLS files and SASL credentials.

    The password comes from ``password_file``, else from the variable named by ``password_env``, else from
    ``password``; it is kept as a ``SecretStr`` and never shown. A file that cannot be read is a ``SettingError``.
    With OAUTHBEARER they are the client's id and secret, for which ``token_url`` gives a token of ``scope`` (OIDC, the
    grant ``client_credentials``). AWS_MSK_IAM takes them from where AWS's own tools do, and has no user here.
    """

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"] | None = None
    username: str | None = None
    token_url: str | None = None
    scope: str | None = None
    password: Secret | None = None
    password_file: Path | None = None
    password_env: str | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: Secret | None = None
    key_password_file: Path | None = None
    check_hostname: bool = True

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.protocol.startswith("SASL"):
            return self
        if self.mechanism is None or (self.username is None and self.mechanism != "AWS_MSK_IAM"):
            raise ValueError(
                f"security.protocol {self.protocol} needs security.mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, "
                "OAUTHBEARER or AWS_MSK_IAM) and, but for the last, security.username"
            )
        if self.mechanism == "OAUTHBEARER" and not (self.token_url or "").startswith(("http://", "https://")):
            raise ValueError("security.mechanism OAUTHBEARER needs security.token_url, as https://HOST/…/token")
        if self.mechanism == "AWS_MSK_IAM" and self.protocol != "SASL_SSL":
            raise ValueError(
                f"security.mechanism AWS_MSK_IAM needs security.protocol SASL_SSL, here it is {self.protocol}"
            )
        return self

    def secret(self) -> str | None:
        """Return the SASL password from its file, variable or value; raises ``ValueError`` that names the source."""
        if self.password_file is not None:
            return read_secret(self.password_file, "security.password_file")
        if self.password_env is not None:
            return secret_variable(self.password_env, "security.password_env")
        return self.password.get_secret_value() if self.password else None

    def options(self) -> dict[str, Any]:
        """Return the client's connection options; the only place where secrets leave their wrapping."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.startswith("SASL"):
            options |= {"sasl_mechanism": self.mechanism, **self._proof()}
        if self.protocol.endswith("SSL"):
            key_password = self.key_password.get_secret_value() if self.key_password else None
            if self.key_password_file is not None:
                key_password = read_secret(self.key_password_file, "security.key_password_file")
            options |= {
                "ssl_check_hostname": self.check_hostname,
                "ssl_cafile": _existing(self.ca_file, "security.ca_file"),
                "ssl_certfile": _existing(self.cert_file, "security.cert_file"),
                "ssl_keyfile": _existing(self.key_file, "security.key_file"),
                "ssl_password": key_password,
            }
        return options

    def _proof(self) -> dict[str, Any]:
        if self.mechanism == "AWS_MSK_IAM":
            if importlib.util.find_spec("botocore") is None:
                raise SettingError("security.mechanism AWS_MSK_IAM needs the package botocore; install it beside us")
            return {}
        if self.mechanism == "OAUTHBEARER":
            from stationkeeper.streams.oauth import ClientCredentials

            given = ClientCredentials(str(self.token_url), str(self.username), self.secret() or "", self.scope)
            return {"sasl_oauth_token_provider": given}
        return {"sasl_plain_username": self.username, "sasl_plain_password": self.secret()}


class DeadLetterSettings(_Block):
    """When rejected records stop being noise: past either limit the topic is stopped, uncommitted."""

    # Chosen: where most records are rejected the producer is broken, not a record. At a quarter one broken producer of
    # three would stop the other two; at 1 only `run` would ever stop a topic.
    share: Share = 0.5
    """Largest share of rejected records in a block of ``minimum`` records of one partition."""
    # Chosen: the share is then known to within 3 points (2 standard errors); of a hundred records it would be 10.
    minimum: Annotated[int, Field(ge=1)] = 1_000
    """Records of such a block; the share counts of all of it, so fewer rejected ones say nothing yet."""
    # Chosen equal to `minimum`: a topic that is broken from now on stops after as many as one that always was.
    run: Annotated[int, Field(ge=1)] = 1_000
    """Rejected records in a row on one partition at which its topic stops."""
    connect_headers: bool = False
    """Write Kafka Connect's ``__connect.errors.*`` headers beside our own."""


class KafkaSettings(_Block):
    """The cluster, the identity of this replica on it, and the pace of its loop.

    ``instance`` names this replica: group.instance.id and transactional.id are built from it. It must be unique among
    the running replicas of a role and should be stable over restarts; left out it is the host's name, which is both on
    machines, in containers and in a StatefulSet. Several of one role on a machine need one each.
    """

    bootstrap: Annotated[str, BeforeValidator(_one_line), Field(min_length=1)] = "localhost:9092"
    prefix: Name = "stationkeeper"
    client: Literal["kafka-python", "librdkafka"] = "kafka-python"
    """``librdkafka`` is confluent-kafka, from the extra of that name; both pass the same suite."""
    group_prefix: Name | None = None
    instance: Name | None = None
    security: SecuritySettings = SecuritySettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    first_start: Literal["earliest", "latest"] = "earliest"
    """Where a group without offsets begins. For ``latest`` start one replica and the others once it is ready: a member
    that comes when the group has read some of a topic takes its own for added ones and reads them whole.
    """

    # A replica that died is replaced after it. Kafka's default is 45 s; 10 s keeps a takeover well below the 30 s of
    # the fault suite, and the broker's least is 6 s. Half of it would take a long garbage collection for a death.
    session_timeout: Duration = 10_000
    # How long a dead replica's open transaction hides what comes after it from readers; the default is a minute. It
    # must outlast one flush with a broker changing its leader (some seconds), or each such flush is fenced.
    transaction_timeout: Duration = 15_000
    # Kafka's default: the longest turn, reading back state included, before the group takes the member for stuck.
    max_poll_interval: Duration = 300_000
    # A partition that is added is read this much later; Kafka's default of 5 min leaves new keys unread for as
    # long; a request of some kB twice a minute is no load.
    metadata_max_age: Duration = 30_000
    # A request that waits longer is sent again; above the session, as a join of the group may take a whole session.
    request_timeout: Duration = 12_000
    # Names that do not resolve and ports that do not answer are said within it at start. Chosen: a far
    # broker under load lets in within a second or two.
    connect_timeout: Duration = 5_000

    # Counts are at most this old in metrics and verdicts. A transaction costs several requests to the broker whatever
    # it holds, so a tenth of it would spend that ten times as often.
    flush_interval: Duration = 1_000
    # A fifth of flush_interval, so that a flush is late by at most that on a topic without records.
    poll_timeout: Duration = 200
    # Records of one turn: below a tenth of a second of work at 3.6 us an event (docs/performance.md), so that a stop
    # or a lost partition is noticed at once.
    max_poll_records: Annotated[int, Field(ge=1)] = 20_000
    # 64 times the broker's own default of 1 MiB: state of thousands of segments is one record. The floors here are a
    # header (1 KiB) and one batch of a producer (64 KiB): below them nothing is read or written at all.
    max_message_bytes: Annotated[int, Field(ge=1_024)] = 64 * MIB
    """The largest request a producer sends and the largest record a reader accepts."""
    partition_fetch_bytes: Annotated[int, Field(ge=64 * 1024)] = 4 * MIB
    """What one fetch takes of one partition; see docs/adr for the measurement."""
    fetch_bytes: Annotated[int, Field(ge=64 * 1024)] = 32 * MIB
    """What one fetch takes of all partitions of a broker, eight of them full: the bound on the client's memory."""
    replication: Annotated[int, Field(ge=1)] | None = None
    """Replication factor of topics that are created; the broker's default when left out."""

    @model_validator(mode="after")
    def _offered(self) -> Self:
        if self.client == "librdkafka" and self.security.mechanism == "AWS_MSK_IAM":
            raise ValueError("kafka.client librdkafka has no AWS_MSK_IAM; write kafka.client: kafka-python")
        return self

    def group(self, role: str) -> str:
        """Return the consumer group of a role."""
        return f"{self.group_prefix or self.prefix}.{role}"

    @property
    def replica(self) -> str:
        """The name of this replica: ``instance``, else the name of the host."""
        return self.instance or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "0"

    def member(self, role: str) -> str:
        """Return the stable name of this replica of a role: group.instance.id and transactional.id."""
        return f"{self.group(role)}.{self.replica}"

    def connection(self, client_id: str) -> dict[str, Any]:
        """Return the options that every client of the cluster shares."""
        return {
            "bootstrap_servers": [server.strip() for server in self.bootstrap.split(",")],
            "client_id": client_id,
            "request_timeout_ms": self.request_timeout,
            "bootstrap_timeout_ms": self.connect_timeout,
            "metadata_max_age_ms": self.metadata_max_age,
            # A broker that returns is noticed within a second; the default backs off to half a minute.
            "reconnect_backoff_max_ms": 1_000,
            **self.security.options(),
        }


def _existing(path: Path | None, key: str) -> str | None:
    if path is None:
        return None
    if not path.is_file():
        raise SettingError(f"{key} {path} is not a file")
    return str(path)
