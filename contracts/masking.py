"""What must not leave the process is masked in one place: credentials in URLs, and values that name themselves secret.

Errors of libraries quote the address they failed on, password and all; they reach answers, pages, metrics and logs.
"""

import re

MASK = "***"

# Everything between the scheme and the last @ of the word: a password may hold a slash, a colon or an @ itself.
_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s\"'<>]*@")

# `name=value` and `name: value`, in a query, a connection string, a JSON text or a sentence. Names only, no entropy
# rule: an id or a digest looks as random as a token, and masking those would hide what a person needs.
_NAMED = re.compile(
    r"""(?ix) ( [\w.-]* (?: password | passwd | secret | token | api[_-]?key | access[_-]?key | credential s? )
            [\w.-]* ["']? \s* [=:] \s* ["']? ) (?! \*\*\* ) [^\s"'&;,)}\]]+"""
)


def masked(text: str) -> str:
    """Return a text without credentials: ``https://u:p@host/x?token=t`` -> ``https://***@host/x?token=***``; O(n)."""
    if "@" in text:
        text = _IN_URL.sub(rf"\1{MASK}@", text)
    return _NAMED.sub(rf"\1{MASK}", text)
