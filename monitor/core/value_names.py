"""Names of category values: salted hashes, under which a sensitive value may be counted and shown."""

import base64
import hashlib


def hash_value(key: str, salt: str) -> int:
    """Return the 64-bit salted BLAKE2b hash of a canonical key."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big")


def value_name(key: str, salt: str) -> str:
    """Return the name under which a sensitive value may be shown and stored: ``#`` and 8 letters of its hash."""
    digest = hash_value(key, salt).to_bytes(8, "big")
    return "#" + base64.b32encode(digest[:5]).decode().lower()
