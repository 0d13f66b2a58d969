"""Who may ask for what: tokens with roles, names under which a server may be asked, and pages of other sites."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from goodrate.serving.bodies import error_answer
from goodrate.text_file import read_text

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

ROLES = ("search", "judge", "edit")  # each may do what those before it may
LEAST_CHARACTERS = 16  # of a token
PUBLIC = ("/healthz", "/readyz")
READING = ("GET", "HEAD", "OPTIONS")
JUDGING = {
    "/judge", "/explain", "/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/embeddings", "/v1/embeddings",
    "/embed", "/v1/embed", "/v2/embed",
}  # fmt: skip
SEEN = ("/search", "/ubi/events")  # POST, from the pages that shoppers see
# for raters, read or written
RATING = ("/compare", "/grade", "/grading", "/overrules", "/overrides", "/monitor", "/monitoring")
MAY, USER = "goodrate.role", "goodrate.user"  # of a request's scope


def role_for(method: str, path: str) -> str | None:
    """The least role for a request; None = nobody is asked who he is. What writes and is not known needs "edit".

    >>> [role_for("GET", path) for path in ("/search", "/explain", "/readyz", "/overrules")], role_for("POST", "/votes")
    (['search', 'judge', None, 'edit'], 'edit')
    >>> role_for("POST", "/ubi/events"), role_for("DELETE", "/overrules/1")
    ('search', 'edit')
    """
    if path in PUBLIC:
        return None
    if path in JUDGING or (method == "POST" and path == "/"):
        return "judge"
    if f"{path}/".startswith(tuple(f"{folder}/" for folder in RATING)):
        return "edit"
    return "search" if method in READING or path in SEEN else "edit"


@dataclass(frozen=True)
class Token:
    """A token as it is kept: its sha256, what it may do, and whose it is."""

    digest: bytes
    role: str
    user: str


def read_tokens(path: str | Path) -> tuple[Token, ...]:
    """The tokens of a file: lines `ROLE TOKEN [NAME]`, "#" begins a comment.

    Raises ValueError naming the line for another role, a token that is too short, one that occurs twice and a file
    without tokens.
    """
    tokens: dict[bytes, Token] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if not 2 <= len(words) <= 3 or words[0] not in ROLES:
            raise ValueError(f"{path}, line {number}: expected ROLE TOKEN [NAME], a role of {', '.join(ROLES)}")
        if len(words[1]) < LEAST_CHARACTERS:
            way_out = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
            raise ValueError(f"{path}, line {number}: the token has under {LEAST_CHARACTERS} characters; {way_out}")
        digest = _digest(words[1])
        if digest in tokens:
            raise ValueError(f"{path}, line {number}: this token stands on an earlier line too")
        tokens[digest] = Token(digest, words[0], words[2] if len(words) == 3 else words[0])
    if not tokens:
        raise ValueError(f"{path}: no tokens; expected lines ROLE TOKEN [NAME], a role of {', '.join(ROLES)}")
    return tuple(tokens.values())


@dataclass(frozen=True)
class Access:
    """tokens: who may ask; None = anybody. hosts: names by which the server may be asked, beside addresses and
    localhost; None = any. origins: other sites (https://shop.example) whose pages may ask."""

    tokens: tuple[Token, ...] | None = None
    hosts: tuple[str, ...] | None = ()
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}" or "@" in origin:
                raise ValueError(f"origin {origin!r}: expected a site such as https://shop.example, without a path")

    def knows(self, host: str) -> bool:
        """Whether the server may be asked by this Host header.

        A page of another site can make its own name lead here (DNS rebinding), but not an address.
        >>> [Access(hosts=("shop.example",)).knows(host) for host in ("[::1]:80", "Shop.example:8000", "evil.example")]
        [True, True, False]
        """
        if self.hosts is None:
            return True
        name = _name(host)
        return name == "localhost" or name in self.hosts or _is_address(name)

    def token(self, authorization: str) -> Token | None:
        """The token of an Authorization header: Bearer, or Basic with the token as password, which browsers send."""
        kind, _, sent = authorization.partition(" ")
        secret = sent.strip()
        if kind.lower() == "basic":
            try:
                secret = base64.b64decode(secret, validate=True).decode("utf-8").partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return None
        elif kind.lower() != "bearer":
            return None
        digest = _digest(secret)
        found = [token for token in self.tokens or () if hmac.compare_digest(token.digest, digest)]
        return found[0] if found else None


class Guard:
    """Refuses what may not be asked: 421 for another host, 403 for pages of other sites, 401 and 403 for tokens."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        refused = self._stranger(headers) or self._unknown(scope, headers)
        return await (refused or self._app)(scope, receive, send)

    def _stranger(self, headers: Headers) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._access.knows(host):
            return error_answer(421, f"this server is not asked by the name {host[:100]!r}; --allow-host takes it")
        if origin is None or origin in self._access.origins or urlsplit(origin).netloc.lower() == host.lower() != "":
            return None
        return error_answer(403, f"pages of {origin[:100]!r} may not ask this server; --cors ORIGIN lets them")

    def _unknown(self, scope: Scope, headers: Headers) -> Response | None:
        if self._access.tokens is None:
            return None
        needed = role_for(scope["method"], scope["path"])
        token = self._access.token(headers.get("authorization", ""))
        scope[MAY], scope[USER] = (token.role, token.user) if token else (None, None)
        if needed is None or (token and ROLES.index(token.role) >= ROLES.index(needed)):
            return None
        if token:
            return error_answer(403, f"this token is for {token.role}; expected one for {needed}")
        answer = error_answer(401, "expected a token: Authorization: Bearer TOKEN, or the token as password")
        answer.headers.append("www-authenticate", 'Basic realm="goodrate", charset="UTF-8"')
        answer.headers.append("www-authenticate", 'Bearer realm="goodrate"')
        return answer


def tell_all(scope: Scope) -> bool:
    """Whether whoever asks may know what is loaded: yes where nobody needs a token."""
    return scope.get(MAY, ROLES[0]) is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "shop.example")]
    [True, True, True, False, False]
    """
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def access_for(
    host: str, token_file: Path | None, insecure: bool, hosts: Sequence[str] = (), origins: Sequence[str] = ()
) -> Access:
    """What a server on this address lets in.

    Names are checked where there are no tokens, or where they are given: without tokens, whoever makes a browser ask is
    answered. Raises ValueError for an address that others reach without tokens, unless insecure.
    """
    tokens = read_tokens(token_file) if token_file is not None else None
    if tokens is None and not is_loopback(host) and not insecure:
        raise ValueError(
            f"{host} can be reached by others: say who may ask with --token-file FILE (lines ROLE TOKEN, a role of "
            f"{', '.join(ROLES)}), or --insecure to answer anybody"
        )
    checked = bool(hosts) or tokens is None
    return Access(tokens, tuple(name.lower() for name in (host, *hosts)) if checked else None, tuple(origins))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8")).digest()


def _name(host: str) -> str:
    """The name or address of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
