"""Videos from the web, if the caller allows it: https, public addresses only, bounded in size, time and redirects.

A URL that a stranger supplies must not make this machine fetch from its own network (server-side request forgery).
So each hop's host is resolved once, every address it resolves to must be public, and the connection goes to that very
address: a second look-up could give another answer. Proxy settings of the environment are not used, since a proxy
would look the name up again.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from http import HTTPStatus
from typing import Any, Literal, get_args
from urllib.parse import quote, urljoin, urlsplit

from .types import LONGEST_PATH, UnreadableVideoError, VideoLimits

# Which URLs may be fetched; "http" allows both.
WebPolicy = Literal["none", "https", "http"]
Resolver = Callable[[str, int], list[str]]

MAX_REDIRECTS = 3
WEB_POLICIES: tuple[WebPolicy, ...] = get_args(WebPolicy)
_ALLOWED = {"none": (), "https": ("https",), "http": ("https", "http")}
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK_BYTES = 2**16
# What is read besides a body: a hundred lines of a header as long as http.client takes them. Sizes of chunks come on
# top, a quarter of the body at most.
_FRAMING_BYTES = 8 * 2**20
_DEFAULT_PORTS = {"https": 443, "http": 80}
# What stays as it is in a URL: "%" too, since a URL may be quoted already.
_UNQUOTED = "%/:;=@!$&'()*+,?#[]~"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What `is_global` lets pass, depending on the version of Python, and no video server has: services of a cloud or a
# provider for the machines in it, retired or reserved ranges, and ranges of documentation.
_DENIED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # a cloud's platform services
        "192.0.0.0/24",  # protocol assignments, a cloud's metadata among them
        "192.31.196.0/24",  # AS112, which answers for private addresses
        "192.52.193.0/24",  # automatic multicast tunnels
        "192.88.99.0/24",  # relays of 6to4
        "192.175.48.0/24",  # AS112
        "64:ff9b:1::/48",  # NAT64 of a local network
        "100::/64",  # discarded
        "2001::/23",  # protocol assignments; Teredo, which wraps IPv4, is looked into before
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)
# Its scheme, its place, and what a query, a fragment or options behind it may tell.
_PARTS_OF_ADDRESS = re.compile(r"(\w[\w.+-]*://)?(.*?)(\?.*|[#\s]\w+=.*)?", re.DOTALL)
# Characters of a server's or library's message that are shown: enough to know what is wrong.
_QUOTED_CHARACTERS = 200


def fetch_url(url: str, *, policy: WebPolicy, limits: VideoLimits, resolve: Resolver | None = None) -> bytearray:
    """Download a video.

    Args:
        policy: Which schemes may be fetched, also after a redirect.
        limits: `max_memory_bytes` bounds the size, `timeout_seconds` the whole download.
        resolve: Returns the addresses of (host, port); by default the public ones that the system finds. A caller who
            trusts a private server passes a function that returns its address.

    Raises:
        UnreadableVideoError: where the URL is not allowed, leads to a private address, or fails.
    """
    if policy not in _ALLOWED:
        raise ValueError(f"allow_urls is {policy!r}, but must be one of {', '.join(map(repr, _ALLOWED))}.")
    if policy == "none":
        raise UnreadableVideoError("it is a URL, and URLs are not fetched unless allow_urls is 'https' or 'http'")
    with _Deadline(limits.timeout_seconds) as deadline:
        for _ in range(MAX_REDIRECTS + 1):
            answer = _get(url, policy, limits, deadline.bounded(resolve or public_addresses), deadline)
            if isinstance(answer, bytearray):
                return answer
            url = answer
    raise UnreadableVideoError(f"more than {MAX_REDIRECTS} redirects")


def shown_address(address: str) -> str:
    """An address as messages show it: without its account, or what its query may tell.

    A password that is not written as addresses have it may hold any of the characters that end its part of one.
    """
    scheme, place, query = _PARTS_OF_ADDRESS.fullmatch(address).groups("")  # type: ignore[union-attr]
    if "@" in query and ":" in place:
        return f"{scheme}***"
    account, _, rest = place.rpartition("@")
    # Not what stands behind an "@" in a path, such as a revision.
    if account and (":" in account or "/" not in account):
        place = f"***@{rest}"
    return scheme + place + (query and f"{query[0]}***")


def without_secrets(text: str, address: str) -> str:
    """A text that may repeat an address, such as its client's error, without what `shown_address` leaves out of it."""
    _, place, query = _PARTS_OF_ADDRESS.fullmatch(address).groups("")  # type: ignore[union-attr]
    account = re.sub(r"^.*::\w[\w.+-]*://", "", place if "@" in query else place.rpartition("@")[0])
    for secret in (query[1:], account if ":" in account else f"{account}@", account.partition(":")[2]):
        if secret.strip("@"):
            text = text.replace(secret, "***")
    return text


def public_addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, all of them public.

    Raises:
        UnreadableVideoError: where the host is unknown or one of its addresses is private, local or reserved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnreadableVideoError(f"the host {_quoted(host)} is unknown: {_quoted(error)}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_public(address):
            raise UnreadableVideoError(f"the host {_quoted(host)} has the address {address}, which is not public")
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet, also where IPv6 wraps an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if wrapped is None and ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
    is_denied = any(ip.version == network.version and ip in network for network in _DENIED)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or is_denied)


def _get(url: str, policy: WebPolicy, limits: VideoLimits, resolve: Resolver, deadline: _Deadline) -> bytearray | str:
    """The body at `url`, or the URL that it redirects to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UnreadableVideoError(f"{_quoted(shown_address(url))} is not a URL: {_quoted(error)}") from error
    if parts.scheme not in _ALLOWED[policy] or not host:
        raise UnreadableVideoError(f"{_quoted(shown_address(url))} is not an allowed URL; allow_urls is {policy!r}")
    if parts.username or parts.password:
        raise UnreadableVideoError("the URL holds a user name or password")
    default_port = _DEFAULT_PORTS[parts.scheme]
    port = port or default_port
    try:
        connection = http.client.HTTPConnection(host, port)
    except http.client.InvalidURL as error:
        raise UnreadableVideoError(f"{_quoted(shown_address(url))} is not a URL: {_quoted(error)}") from error
    # The port that the Host header leaves out; its own class for https would look the host up again.
    connection.default_port = default_port
    connection.response_class = _FinalResponse
    try:
        addresses = resolve(host, port)
        connected = _connect(addresses, port, host if parts.scheme == "https" else None, deadline)
        connection.sock = _BoundedSocket(connected, limits.max_memory_bytes)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(
            "GET", quote(target, safe=_UNQUOTED), headers={"Accept-Encoding": "identity", "User-Agent": "froster-hf"}
        )
        # One that the server ends outlives its connection.
        with connection.getresponse() as response:
            answer = _read_answer(response, url, limits)
    except (OSError, http.client.HTTPException, ValueError, UnreadableVideoError) as error:
        deadline.check()
        if isinstance(error, UnreadableVideoError):
            raise
        raise UnreadableVideoError(f"the download failed: {type(error).__name__} {_quoted(error)}") from error
    # A connection that was shut down in time looks like one that ended well.
    deadline.check()
    return answer


def _connect(addresses: list[str], port: int, tls_host: str | None, deadline: _Deadline) -> socket.socket:
    failure: OSError = OSError("the host has no address")
    for address in addresses:
        seconds_left = deadline.seconds_left()
        try:
            plain = deadline.watch(socket.create_connection((address, port), timeout=seconds_left))
            if tls_host is None:
                return plain
            context = ssl.create_default_context()
            # An answer that does not state its length ends where the server says so, and not where a line is cut; some
            # releases of Python pass over that.
            context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
            secure = context.wrap_socket(
                plain, server_hostname=tls_host, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            deadline.watch(secure).do_handshake()  # type: ignore[attr-defined]
            return secure
        except OSError as error:
            failure = error
    raise failure


class _FinalResponse(http.client.HTTPResponse):
    """The answer itself, behind those that only say what will be in it (103) or that it takes its time (102)."""

    def begin(self) -> None:
        """Read the status and the headers."""
        super().begin()
        while self.status in (HTTPStatus.PROCESSING, HTTPStatus.EARLY_HINTS):
            self.headers = None  # type: ignore[assignment]  # Those of the next one are read.
            super().begin()


class _BoundedSocket:
    """What http.client uses of a connection, from which no more is read than an answer within the limit takes.

    http.client bounds its own reads by what a server says, such as a chunk of -1 bytes, which is one without an end.

    Args:
        connection: the socket.
        max_bytes: size of the body.
    """

    def __init__(self, connection: socket.socket, max_bytes: int):
        self.sendall, self.close = connection.sendall, connection.close
        self._connection, self._max_bytes = connection, max_bytes

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        """What the server says."""
        return io.BufferedReader(_BoundedReads(self._connection.makefile(mode, buffering=0), self._max_bytes))


class _BoundedReads(io.RawIOBase):
    def __init__(self, stream: Any, max_bytes: int):
        self._stream, self._max_bytes = stream, max_bytes
        self._num_left = max_bytes + max_bytes // 4 + _FRAMING_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self._num_left -= count
        if self._num_left < 0:
            raise _too_large(self._max_bytes)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def _too_large(limit: int) -> UnreadableVideoError:
    return UnreadableVideoError(f"the download is larger than VideoLimits.max_memory_bytes, {limit}")


def _read_answer(response: http.client.HTTPResponse, url: str, limits: VideoLimits) -> bytearray | str:
    if response.status in _REDIRECTS:
        # http.client reads headers as Latin-1; quoting the bytes keeps what the server meant.
        location = (response.getheader("Location") or "").encode("latin-1")
        if len(location) > LONGEST_PATH:
            # Python keeps what it has taken apart of the last hundred.
            raise UnreadableVideoError(
                f"the server names an address of {len(location):,} characters; at most {LONGEST_PATH:,} are read"
            )
        return urljoin(url, quote(location, safe=_UNQUOTED))
    if response.status != 200:
        raise UnreadableVideoError(f"the server answered {response.status} {_quoted(response.reason)}")
    limit = limits.max_memory_bytes
    body = bytearray()
    if (response.length or 0) <= limit:
        while len(body) <= limit and (chunk := response.read(_CHUNK_BYTES)):
            body += chunk
    if len(body) > limit or (response.length or 0) > limit:
        raise _too_large(limit)
    if response.length:
        raise UnreadableVideoError(f"the download ended {response.length} bytes too early")
    return body


def _quoted(text: object) -> str:
    """What a stranger says, cut short, with control characters escaped: it ends up on a terminal."""
    return repr(str(text)[:_QUOTED_CHARACTERS])


class _Deadline:
    """Shuts the watched sockets down in time, and closes them at its end.

    A socket's own timeout starts again with every byte that drips in.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._end_time = time.monotonic() + seconds
        self._has_passed = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> socket.socket:
        """Have `connection` shut down in time."""
        self._sockets.append(connection)
        if self._has_passed:
            self._end()
        return connection

    def bounded(self, resolve: Resolver) -> Resolver:
        """`resolve`, left to itself where it is late: the system's look-up cannot be broken off."""

        def resolve_in_time(host: str, port: int) -> list[str]:
            found: Future[list[str]] = Future()

            def look_up() -> None:
                try:
                    found.set_result(resolve(host, port))
                except BaseException as error:
                    found.set_exception(error)

            threading.Thread(target=look_up, daemon=True).start()
            try:
                return found.result(max(0.0, self._end_time - time.monotonic()))
            except FutureTimeoutError:
                self._has_passed = True
                self.check()
                raise

        return resolve_in_time

    def seconds_left(self) -> float:
        """Seconds until the end.

        Raises:
            UnreadableVideoError: there are none.
        """
        seconds = self._end_time - time.monotonic()
        self._has_passed = self._has_passed or seconds <= 0
        self.check()
        return seconds

    def check(self) -> None:
        """Raise `UnreadableVideoError` where the time is over."""
        if self._has_passed:
            raise UnreadableVideoError(
                f"the download took longer than {self.seconds:g} seconds (VideoLimits.timeout_seconds)"
            )

    def _end(self) -> None:
        self._has_passed = True
        for connection in self._sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        for connection in self._sockets:
            connection.close()
