"""Secrets of a url, replaced by `${NAME}`: what is written into a config or printed holds none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SECRET = re.compile(
    r"""
    (?P<user>^[\w.+-]+://[^:/?\#@]*:) (?P<password>[^@]+) (?=@)
    | (?P<option>[?&] (?P<name>[^=&]*
        (?:pass|pwd|secret|token|credential|api_?key|access_?key|signature|odbc_connect)[^=&]*)=) (?P<value>[^&]+)
    """,  # an ODBC string may hold a password of its own
    re.IGNORECASE | re.VERBOSE,
)
_NAMED = re.compile(r"\$\{\w+\}")


@dataclass(frozen=True)
class Hidden:
    """A url without its secrets, and these as the url spells them, by the names that stand in their places."""

    url: str
    secrets: Mapping[str, str]


def hide(url: str, owner: str) -> Hidden:
    """Put `${OWNER_PASSWORD}` in place of a url's password, and the like for what options of it are secrets.

    Those that are names of the environment already stay.

    >>> hide("postgresql://me:s3cret@db/shop?sslpassword=t0p", "shop")
    Hidden(url='postgresql://me:${SHOP_PASSWORD}@db/shop?sslpassword=${SHOP_SSLPASSWORD}', \
secrets={'SHOP_PASSWORD': 's3cret', 'SHOP_SSLPASSWORD': 't0p'})
    """
    secrets: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        secret = found["password"] or found["value"]
        if _NAMED.fullmatch(secret):
            return found[0]
        name = _name(owner, found["name"] or "password", secrets)
        secrets[name] = secret
        return f"{found['user'] or found['option']}${{{name}}}"

    return Hidden(_SECRET.sub(named, url) if "://" in url else url, secrets)


def _name(owner: str, what: str, taken: Mapping[str, str]) -> str:
    """Make a name that a shell can export, and that stands for no other secret."""
    name = re.sub(r"\W+", "_", f"{owner}_{what}", flags=re.ASCII).upper().replace("-", "_")
    name = name if name[0].isalpha() or name[0] == "_" else f"DB_{name}"
    return name if name not in taken else _name(f"{owner}_2", what, taken)
