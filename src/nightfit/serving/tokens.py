"""Bearer tokens: kept as SHA-256, several at once so that one can replace another, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from nightfit.errors import ConfigError

_DIGEST = re.compile(r"[0-9a-f]{64}")


def new_token() -> tuple[str, str]:
    """Return a random token (256 bits) and its SHA-256."""
    token = secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """The digests of the tokens that open the server; none: everybody may ask."""

    def __init__(self, digests: frozenset[bytes] = frozenset()) -> None:
        self._digests = digests

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a file of digests, one a line; what follows a `#` is a comment.

        Raises `ConfigError` for a file without any, and for a line that is none: a token itself, say.
        """
        try:
            lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the file of tokens must be readable text, however {path}: {error}") from None
        for number, line in enumerate(lines, 1):
            if line and not _DIGEST.fullmatch(line):
                raise ConfigError(
                    f"the file of tokens must hold SHA-256 digests in hexadecimal, however line {number} of {path} is "
                    "none; `nightfit token` prints a token and its digest"
                )
        if not any(lines):
            raise ConfigError(f"the file of tokens must hold a digest, however {path} has none; see `nightfit token`")
        return cls(frozenset(bytes.fromhex(line) for line in lines if line))

    def __bool__(self) -> bool:
        return bool(self._digests)

    def allow(self, authorization: bytes) -> bool:
        """Say whether an `Authorization` header opens the server."""
        if not self._digests:
            return True
        scheme, _, token = authorization.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:  # a digest of nothing (an empty variable) must open nothing
            return False
        digest = hashlib.sha256(token).digest()
        found = False
        for known in self._digests:  # all of them: how long it takes tells nothing
            found |= hmac.compare_digest(digest, known)
        return found
