"""A team's own server that takes weights by POST and tells them by GET, as docs/extending.md asks."""

from email.message import Message
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.json_server import JsonServer


class Platform:
    """A serving platform in memory: what is in force by model."""

    def __init__(self) -> None:
        self.wanted: dict[str, dict[str, Any]] = {}
        self.taken: list[dict[str, Any]] = []

    def take(self, one: dict[str, Any]) -> bool:
        known = self.wanted.get(one["model"])
        if known is not None and one["epoch"] < known["epoch"]:
            return False
        self.wanted[one["model"]] = one
        self.taken.append(one)
        return True


class TeamServer(JsonServer):
    """A team's own server that takes weights by POST and tells them by GET."""

    def __init__(self) -> None:
        self.platform, self.status = Platform(), 0
        self.said: bytes | None = None
        super().__init__()

    @property
    def url(self) -> str:
        return f"{super().url}/weights"

    def respond(self, method: str, path: str, headers: Message, body: Any) -> tuple[int, Any]:
        if method == "POST":
            return self.status or (200 if self.platform.take(body) else 409), self.said
        found = self.platform.wanted.get(parse_qs(urlsplit(path).query)["model"][0])
        return self.status or (200 if found else 404), found
