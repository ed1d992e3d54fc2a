"""A real Kafka that asks who is there: SASL_SSL with SCRAM and OAUTHBEARER, rights by ACL, a way in for the test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from stationkeeper.streams.broker import LocalBroker
from stationkeeper.streams.broker.local import free_ports

PASSWORD = "a-password-of-this-test"


@dataclass
class SecuredBroker:
    """``open`` is the listener of the test itself, which may do everything; ``bootstrap`` asks for SASL_SSL."""

    open: str
    bootstrap: str
    ca: Path
    wrong_ca: Path
    broker: LocalBroker

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=[self.open])

    def add_user(self, name: str, password: str = PASSWORD) -> None:
        admin = self.admin()
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, password.encode(), iterations=4096)]
        )
        admin.close()

    def settings(self, user: str, **more: Any) -> dict[str, Any]:
        security = {
            "protocol": "SASL_SSL",
            "mechanism": "SCRAM-SHA-512",
            "username": user,
            "password": PASSWORD,
            "ca_file": str(self.ca),
        }
        return {"bootstrap": self.bootstrap, "security": {**security, **more}}


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=cwd)


@contextmanager
def secured_broker(directory: Path) -> Iterator[SecuredBroker]:
    for name in ("ca", "wrong"):
        openssl(
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.crt",
            cwd=directory,
        )
    openssl(
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        cwd=directory,
    )
    (directory / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "san",
        "-out",
        "server.crt",
        cwd=directory,
    )
    store = directory / "server.pem"
    store.write_text((directory / "server.key").read_text() + (directory / "server.crt").read_text())
    (port,) = free_ports(1)
    listener = "listener.name.second"
    jaas = "org.apache.kafka.common.security"
    more = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECOND:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
        f"{listener}.scram-sha-512.sasl.jaas.config": f"{jaas}.scram.ScramLoginModule required;",
        f"{listener}.oauthbearer.sasl.jaas.config": f"{jaas}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="unused";',
        f"{listener}.ssl.keystore.type": "PEM",
        f"{listener}.ssl.keystore.location": str(store),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:root",
    }
    broker = LocalBroker(directory / "kafka", advertised=port, more=more)
    broker.nodes[0].second_port = port
    with broker:
        yield SecuredBroker(
            broker.bootstrap, f"127.0.0.1:{port}", directory / "ca.crt", directory / "wrong.crt", broker
        )
