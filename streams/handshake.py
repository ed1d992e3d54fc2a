"""Why a cluster does not let us in: asked step by step, because no client says it.

kafka-python and librdkafka try a refused connection again and report in the end that no broker answered. One look by
hand (connection, TLS, SASL) tells a wrong password from a broker that is away: before a client with secrets is made,
so that nobody waits for its tries, and after one has failed.
"""

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from kafka import errors
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.streams.errors import Denied, Retryable
from stationkeeper.streams.oauth import TokenRefused
from stationkeeper.streams.settings import KafkaSettings

# For each step. A refusal comes after the broker's own delay of 100 ms, under load after some times that; a broker
# that hangs delays the first try of a client by it.
_STEP_S: Final = 2.0
# Chosen: one broker alone may be at fault, and of a cluster that hangs each costs a try up to three steps (connect,
# TLS, SASL): eighteen seconds in all.
_MOST_SILENT: Final = 3
# An answer has a hundred bytes; what comes in pieces is read on.
_MOST_BYTES: Final = 65_536
# Ends each sentence about protocols, so that they say the same.
_MECHANISM: Final = "set kafka.security.protocol and mechanism to what the listener asks for"


@contextmanager
def explained(settings: KafkaSettings) -> Iterator[None]:
    """Raise ``Denied`` where the cluster refuses these settings, beforehand or after a ``Retryable`` raised inside."""
    # Without TLS and SASL there is nothing to refuse, and most clients are spared a connection.
    if settings.security.protocol != "PLAINTEXT":
        refused = refusal(settings)
        if refused is not None:
            raise refused
    try:
        yield
    except Retryable as error:
        refused = refusal(settings)
        if refused is not None:
            raise refused from error
        raise


def refusal(settings: KafkaSettings) -> Denied | None:
    """Return why the first broker that answers refuses us; None where one lets us in, or none can be reached.

    One broker that fails (an expired certificate) stops nobody: a client goes on to the next, and so does this.
    """
    options = settings.connection(settings.member("handshake"))
    first, silent = None, 0
    for server in options["bootstrap_servers"]:
        host, _, port = server.rpartition(":")
        # What is no address, the client refuses in its own words.
        if not port.isdecimal():
            continue
        if silent == _MOST_SILENT:
            break
        try:
            found = _Look(host.strip("[]"), int(port), options).refusal()
        except (OSError, errors.KafkaError):
            silent += 1
            continue
        if found is None:
            return None
        first = first or found
    return first


class _Refused(Exception):
    def __init__(self, event: LogEvent, sentence: str) -> None:
        super().__init__(sentence)
        self.event = event


class _Line:
    """A connection on which requests are answered one by one."""

    def __init__(self, line: socket.socket, client_id: str) -> None:
        self._line = line
        self._parser = KafkaProtocol(client_id=client_id)

    def ask(self, request: Any) -> Any:
        # Every broker since 2.2 has version 1 of both requests (KIP-368); nothing later is needed here.
        request.API_VERSION = 1
        self._parser.send_request(request)
        self._line.sendall(self._parser.send_bytes())
        while True:
            data = self._line.recv(_MOST_BYTES)
            if not data:
                raise ConnectionResetError("the broker closed the connection")
            for _, answer in self._parser.receive_bytes(data):
                return answer


class _Look:
    """One broker, looked at with the options of a client."""

    def __init__(self, host: str, port: int, options: Mapping[str, Any]) -> None:
        self._host, self._port, self._options = host, port, options
        self._protocol = str(options["security_protocol"])

    def refusal(self) -> Denied | None:
        """Go through the steps; None where the broker lets us in. Raises what it met where it cannot be reached."""
        try:
            with self._connected() as raw, self._tls(raw) if self._protocol.endswith("SSL") else raw as line:
                self._sasl(_Line(line, str(self._options["client_id"])))
        except _Refused as refused:
            return Denied(refused.event, f"Kafka at {self._host}:{self._port} refuses: {refused}")
        except TimeoutError:
            raise
        except (OSError, errors.KafkaError):
            # It hung up, or answered what no broker does: another protocol on this port, or a broker that fails.
            if self._protocol.endswith("PLAINTEXT") and self._speaks_tls():
                sentence = f"it speaks TLS, and kafka.security.protocol is {self._protocol}; {_MECHANISM}"
                return Denied(LogEvent.BROKER_PROTOCOL, f"Kafka at {self._host}:{self._port}: {sentence}")
            raise
        return None

    def _connected(self) -> socket.socket:
        return socket.create_connection((self._host, self._port), timeout=_STEP_S)

    def _tls(self, raw: socket.socket) -> socket.socket:
        options, file = self._options, LogEvent.BROKER_CERTIFICATE
        try:
            context = ssl.create_default_context(cafile=options["ssl_cafile"])
            context.check_hostname = bool(options["ssl_check_hostname"])
            if options["ssl_certfile"] is not None:
                context.load_cert_chain(options["ssl_certfile"], options["ssl_keyfile"], options["ssl_password"])
        except (ssl.SSLError, OSError) as error:
            raise _Refused(file, f"a file of kafka.security cannot be used: {error}") from None
        try:
            return context.wrap_socket(raw, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            what = "kafka.security.ca_file must hold the CA that signed it"
            if "match" in error.verify_message:
                what = "kafka.bootstrap must use a name that stands in it"
            raise _Refused(file, f"its certificate is not accepted ({error.verify_message}); {what}") from None
        except OSError as error:
            if self._speaks_plain():
                sentence = f"it speaks no TLS, and kafka.security.protocol is {self._protocol}; {_MECHANISM}"
                raise _Refused(LogEvent.BROKER_PROTOCOL, sentence) from None
            if isinstance(error, ssl.SSLError):
                raise _Refused(file, f"TLS fails ({error.reason}); see kafka.security.cert_file and key_file") from None
            raise

    def _sasl(self, line: _Line) -> None:
        wanted = self._options.get("sasl_mechanism")
        try:
            offer = line.ask(SaslHandshakeRequest(mechanism=wanted or "PLAIN"))
        except ssl.SSLError as error:
            # With TLS 1.3 a broker that wants a certificate of ours says so only now.
            sentence = f"TLS fails ({error.reason}); see kafka.security.cert_file and key_file"
            raise _Refused(LogEvent.BROKER_CERTIFICATE, sentence) from None
        asks = errors.for_code(offer.error_code) is not errors.IllegalSaslStateError
        if asks is not (wanted is not None):
            sentence = f"it asks for {'SASL: ' + ', '.join(offer.mechanisms) if asks else 'no SASL'}"
            raise _Refused(
                LogEvent.BROKER_PROTOCOL, f"{sentence}, and kafka.security.protocol is {self._protocol}; {_MECHANISM}"
            )
        if wanted is None:
            return
        if wanted not in offer.mechanisms:
            sentence = (
                f"it offers {', '.join(offer.mechanisms)}, and kafka.security.mechanism is {wanted}; {_MECHANISM}"
            )
            raise _Refused(LogEvent.BROKER_PROTOCOL, sentence)
        self._prove(line, str(wanted))

    def _prove(self, line: _Line, mechanism: str) -> None:
        who = f"user {self._options['sasl_plain_username']!r}" if "sasl_plain_username" in self._options else mechanism
        what = f"{who} and its secret are not accepted; see kafka.security.username and password"
        client = get_sasl_mechanism(mechanism)(host=self._host, **self._options)
        try:
            while not client.is_done():
                answer = line.ask(SaslAuthenticateRequest(_proof(client, mechanism)))
                if errors.for_code(answer.error_code) is not errors.NoError:
                    raise _Refused(LogEvent.BROKER_CREDENTIALS, f"{what} ({answer.error_message})")
                client.receive(answer.auth_bytes)
        except TokenRefused as error:
            raise _Refused(LogEvent.BROKER_CREDENTIALS, str(error)) from None
        except ValueError as error:
            # The broker could not prove that it knows the password: SCRAM asks both sides.
            raise _Refused(LogEvent.BROKER_CREDENTIALS, f"{what} ({error})") from None
        if not client.is_authenticated():
            raise _Refused(LogEvent.BROKER_CREDENTIALS, what)

    def _speaks_plain(self) -> bool:
        with suppress(OSError, errors.KafkaError), self._connected() as raw:
            _Line(raw, "stationkeeper").ask(SaslHandshakeRequest(mechanism="PLAIN"))
            return True
        return False

    def _speaks_tls(self) -> bool:
        context = ssl.create_default_context()
        # Nothing is said on this connection: it only tells which language the port speaks.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with suppress(OSError), self._connected() as raw, context.wrap_socket(raw):
            return True
        return False


def _proof(client: Any, mechanism: str) -> Any:
    """What we say of ourselves; kafka-python signs for MSK with what botocore finds, which may be nothing."""
    try:
        return client.auth_bytes()
    except Exception as error:
        if mechanism != "AWS_MSK_IAM":
            raise
        # Without credentials it asks None for them; botocore's own errors (a profile that is none) share no root.
        told = "none are found" if isinstance(error, AttributeError) else error
        sentence = f"AWS_MSK_IAM has no credentials ({told}); give keys and region as to AWS's own tools"
        raise _Refused(LogEvent.BROKER_CREDENTIALS, sentence) from error
