"""What must not leave the process is hidden in one place: credentials everywhere, control characters in names.

Errors of libraries quote the address they failed on, or the header they sent, password and all; they reach answers,
pages, metrics and logs. Names come from records that anyone may write.
"""

import re
import urllib.parse
from collections.abc import Mapping

MASK = "***"

# Everything between the scheme and the last @ of the word: a password may hold a slash, a colon or an @ itself.
_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s\"'<>]*@")

_SECRET_NAME = r"(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|credentials?|private[_-]?key)"  # noqa: S105
# `name=value` and `name: value`, in a query, a connection string, a JSON text or a sentence. Names only, no entropy
# rule: an id or a digest looks as random as a token, and masking those would hide what a person needs.
_NAMED = re.compile(
    rf"""(?ix) ( [\w.-]* {_SECRET_NAME} [\w.-]* ["']? \s* [=:] \s* ["']? ) (?! \*\*\* ) ( [^\s"'&;,)}}\]]+ )"""
)
# What follows the name of a setting and a colon may be a sentence about it: `kafka.password: unknown key`. Two words of
# letters alone are taken for its beginning, unless the first is a secret that entered this process.
_SENTENCE = re.compile(r"[A-Z]?[a-z]+ [a-z'(]")
# An Authorization header, in an error that quotes the request: the scheme stays.
_HEADER = re.compile(
    r"(?i)(authorization[\"']?\s*[=:]\s*[\"']?(?:b[\"'])?+(?:[a-z]+\s+)?+)(?!\*\*\*|[a-z]+\s)[^\s\"',;]+"
)
_IS_SECRET = re.compile(rf"(?i){_SECRET_NAME}")

# A shorter secret is hidden only where its name or an address stands before it: to hide each `test` or `kafka` of a
# message would destroy it, and tell what the password is.
_SHORTEST = 8
_known: set[str] = set()
_short: set[str] = set()

# Control characters, halves of a surrogate pair, line and paragraph separators, and what turns the direction of a line:
# they break the format around a name, or show another name than is there.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]"
)


def names_secret(name: str) -> bool:
    """Return whether a key, variable or header says of itself that its value is secret, as ``API_KEY`` does."""
    return _IS_SECRET.search(name) is not None


def remember(secret: str) -> str:
    """Have ``masked`` hide this value wherever it stands, also escaped for an address; returns the value.

    Called where a secret enters the process (a setting, a file, a variable). One of fewer than 8 characters is hidden
    behind its name alone.
    """
    if len(secret) < _SHORTEST:
        _short.add(secret)
    if len(secret) >= _SHORTEST:
        _known.update((secret, urllib.parse.quote(secret, safe=""), repr(secret)[1:-1]))
    return secret


def remember_named(values: Mapping[str, object]) -> None:
    """Remember the text values whose names say that they are secret: an environment, free options, headers."""
    for name, value in values.items():
        if isinstance(value, str) and names_secret(name):
            remember(value)


def masked(text: str) -> str:
    """Return a text without credentials: ``https://u:p@host/x?token=t`` -> ``https://***@host/x?token=***``; O(n)."""
    # The longest first, as one may hold another.
    for secret in sorted(_known, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MASK)
    if "@" in text:
        text = _IN_URL.sub(rf"\1{MASK}@", text)
    return _NAMED.sub(_behind_name, _HEADER.sub(rf"\1{MASK}", text))


def _behind_name(found: re.Match[str]) -> str:
    name, value = found.groups()
    sentence = name.endswith(": ") and value not in _short and _SENTENCE.match(found.string, found.start(2))
    return found[0] if sentence else name + MASK


def printable(text: str) -> str:
    r"""Return a name with its control characters spelt out, ``a\\x00b`` for a NUL; any other text as it is.

    For what shows names without escaping them itself: metric labels, pages, terminals. A name that is printable, as
    almost all are, costs one look in C.
    """
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
