"""A server of whose answers a piece comes now and then, so that a time limit of each piece never ends."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Between two pieces: far below any time limit that a test sets.
_PAUSE_S = 0.02
# More than five seconds in all: a question without a limit for the whole ends all the same, with an answer.
_PIECES = 250


@contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """Yield the address of a server that sends ``head``, spaces for seconds and an empty JSON object."""
    done = threading.Event()

    def answer(asked: socket.socket) -> None:
        try:
            with asked:
                asked.recv(4_096)
                asked.sendall(head)
                for _ in range(_PIECES):
                    asked.sendall(b" ")
                    if done.wait(_PAUSE_S):
                        return
                asked.sendall(b"{}")
        except OSError:
            # Whoever asked has gone, as it should.
            return

    def serve(server: socket.socket) -> None:
        while True:
            try:
                asked, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(asked,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        done.set()
        server.shutdown(socket.SHUT_RDWR)


CUT = b"HTTP/1.1 200 OK\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
"""Behind a whole head the body drips, behind one that is cut the head does."""
