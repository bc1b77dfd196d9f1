"""Videos from the web, against a server on this machine: what is fetched, and everything that is not."""

import contextlib
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings, strategies

from froster_hf.video import url as url_module
from froster_hf.video.decoding import VideoDecodeError, VideoLimits, decode_frames
from froster_hf.video.types import UnreadableVideoError
from froster_hf.video.url import fetch_url, is_public, public_addresses, shown_address, without_secrets
from tests.fixtures.videos import read_index

LIMITS = VideoLimits(timeout_seconds=10)


class _Handler(BaseHTTPRequestHandler):
    """/hop/N redirects N times to /clip.mp4; the other paths misbehave as they are called."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Host")))
        name, _, rest = self.path[1:].partition("/")
        getattr(self, f"answer_{name.partition('.')[0].partition('?')[0]}", self.answer_missing)(rest)

    def answer_clip(self, rest):
        self._send(200, self.server.video, {"Content-Length": len(self.server.video)})

    def answer_hop(self, rest):
        left = int(rest)
        self._send(302, b"", {"Location": f"/hop/{left - 1}" if left > 1 else "/clip.mp4", "Content-Length": 0})

    def answer_to(self, rest):
        self._send(301, b"", {"Location": rest.replace("!", "/"), "Content-Length": 0})

    def answer_elsewhere(self, rest):
        location = self.server.location.encode().decode("latin-1")
        self._send(302, b"", {"Location": location, "Content-Length": 0})

    def answer_big(self, rest):
        self._send(200, b"", {"Content-Length": 10**12})

    def answer_cut(self, rest):
        # Neither the length, nor, of TLS, that this is the end: Python's servers do not say it.
        self._send(200, self.server.video[:1000], {"Connection": "close"})

    def answer_endless(self, rest):
        self._send(200, b"", {"Connection": "close"})
        while True:
            self.wfile.write(bytes(2**16))

    def answer_chunk(self, rest):
        """A body whose first chunk has the size that the path says, and which does not end."""
        self._send(200, b"", {"Transfer-Encoding": "chunked"})
        self.wfile.write(f"{rest}\r\n".encode())
        while True:
            self.wfile.write(bytes(2**16))
            self.server.num_sent += 2**16

    def answer_drip(self, rest):
        self._send(200, b"", {"Content-Length": 1000})
        for _ in range(1000):
            self.wfile.write(b".")
            time.sleep(0.1)

    def answer_dripping_header(self, rest):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1000):
            self.wfile.write(b"X")
            time.sleep(0.1)

    def answer_short(self, rest):
        self._send(200, b"abc", {"Content-Length": 100})
        self.close_connection = True

    def answer_rude(self, rest):
        self.wfile.write(b"HTTP/1.1 404 \x1b[31mno\x07 " + b"!" * 5000 + b"\r\nContent-Length: 0\r\n\r\n")

    def answer_garbage(self, rest):
        self.wfile.write(b"\x1b]0;title\x07 " + b"!" * 5000 + b"\r\n\r\n")
        self.close_connection = True

    def answer_hinted(self, rest):
        for status in (102, 103, 103):
            self.send_response_only(status)
            self.send_header("Link", "</player.css>; rel=preload")
            self.end_headers()
        self.answer_clip(rest)

    def answer_missing(self, rest):
        self._send(404, b"", {"Content-Length": 0})

    def answer_gone(self, rest):
        self._send(404, b"", {"Connection": "close"})

    def _send(self, status, body, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            self.close_connection = True


@pytest.fixture
def server(video_file):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.video = video_file("h264_mp4").read_bytes()
    server.requests, server.num_sent = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def here(host: str, port: int) -> list[str]:
    """A resolver under which every name but the forbidden one is this machine."""
    if host == "forbidden.test":
        raise UnreadableVideoError("the host 'forbidden.test' has the address 10.0.0.1, which is not public")
    return ["127.0.0.1"]


def get(server, path: str, *, limits: VideoLimits = LIMITS) -> bytes:
    url = f"http://videos.test:{server.server_port}{path}"
    return fetch_url(url, policy="http", limits=limits, resolve=here)


def links_of_descriptors() -> set[str]:
    """What this process has open, by names that do not come again."""
    links = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return links


@pytest.fixture
def opened_sockets(monkeypatch) -> set[str]:
    """The sockets that a download opens, named as in `links_of_descriptors`."""
    opened = set()
    create = socket.create_connection

    def connect(*args, **kwargs):
        connection = create(*args, **kwargs)
        opened.add(os.readlink(f"/proc/self/fd/{connection.fileno()}"))
        return connection

    monkeypatch.setattr(socket, "create_connection", connect)
    return opened


def test_a_url_is_decoded_when_asked_for(server, monkeypatch):
    monkeypatch.setattr(url_module, "public_addresses", here)
    url = f"http://videos.test:{server.server_port}/clip.mp4?size=full"
    frames, info = decode_frames(url, [3, 30], allow_urls="http")
    assert [read_index(frame.numpy()) for frame in frames] == [3, 30]
    assert info.num_frames == 40
    assert server.requests == [("/clip.mp4?size=full", f"videos.test:{server.server_port}")]


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/clip/two words.mp4?name=größe", "/clip/two%20words.mp4?name=gr%C3%B6%C3%9Fe"),
        ("/clip/two%20words.mp4?a=b%2Fc&d", "/clip/two%20words.mp4?a=b%2Fc&d"),
    ],
)
def test_urls_as_people_write_them_are_quoted_and_quoted_ones_are_kept(server, path, sent):
    assert get(server, path) == server.video
    assert server.requests[-1][0] == sent


def test_a_redirect_to_an_unquoted_url_is_followed(server):
    server.location = "/clip/größe.mp4"
    assert get(server, "/elsewhere") == server.video
    assert server.requests[-1][0] == "/clip/gr%C3%B6%C3%9Fe.mp4"


def test_hints_before_the_answer_are_passed_over(server):
    assert get(server, "/hinted") == server.video


@pytest.mark.parametrize(("scheme", "other_port"), [("https", 80), ("http", 443)])
def test_only_a_port_of_its_own_stands_beside_the_host(server, monkeypatch, scheme, other_port):
    """As a server behind a name sees it; signatures and virtual hosts depend on it."""

    def connect(addresses, port, tls_host, deadline):
        return deadline.watch(socket.create_connection(server.server_address))

    monkeypatch.setattr(url_module, "_connect", connect)
    for url in (f"{scheme}://videos.test/clip.mp4", f"{scheme}://videos.test:{other_port}/clip.mp4"):
        fetch_url(url, policy="http", limits=LIMITS, resolve=here)
    assert [host for _, host in server.requests] == ["videos.test", f"videos.test:{other_port}"]


def test_errors_of_a_download_name_the_url(server, monkeypatch):
    monkeypatch.setattr(url_module, "public_addresses", here)
    url = f"http://videos.test:{server.server_port}/nothing.mp4"
    with pytest.raises(VideoDecodeError, match="404") as caught:
        decode_frames(f"{url}?token=secret", [0], allow_urls="http")
    assert server.requests[-1][0] == "/nothing.mp4?token=secret"
    assert caught.value.file == f"{url}?***"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://camera/1", "rtsp://camera/1"),
        ("rtsp://camera:554/a:b", "rtsp://camera:554/a:b"),
        # A token may stand in the place of a name.
        ("rtsp://secret@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:se:c@ret@camera/1", "rtsp://***@camera/1"),
        ("rtsp://:secret@camera", "rtsp://***@camera"),
        ("RTSP://me:secret@camera", "RTSP://***@camera"),
        ("me:secret@camera/1", "***@camera/1"),
        # What ends the place of a password in an address, where it is not written as %2F, %3F, %23.
        ("rtsp://me:secret/secret@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:secret://secret@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:secret?secret@camera/1", "rtsp://***"),
        ("rtsp://me:secret#secret@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:secret secret@camera/1", "rtsp://***@camera/1"),
        ("srt://camera:1?passphrase=secret", "srt://camera:1?***"),
        ("srt://camera:1?mode=caller&passphrase=secret@secret", "srt://***"),
        ("https://camera/a.m3u8?token=secret\nsecret", "https://camera/a.m3u8?***"),
        ("https://camera/a.m3u8#token=secret", "https://camera/a.m3u8#***"),
        ("rtmp://camera/a token=secret", "rtmp://camera/a ***"),
        ("https://me:secret@videos/clip.mp4", "https://***@videos/clip.mp4"),
        ("https://videos/clip.mp4?id=a@b&token=secret", "https://videos/clip.mp4?***"),
        ("zip://clip.mp4::https://videos/a.zip?token=secret", "zip://clip.mp4::https://videos/a.zip?***"),
        # Names of files and revisions.
        ("https://videos/@me/my clip #1.mp4", "https://videos/@me/my clip #1.mp4"),
        ("hf://datasets/owner/videos@main/clip.mp4", "hf://datasets/owner/videos@main/clip.mp4"),
    ],
)
def test_no_message_shows_a_password(address, shown):
    assert shown_address(address) == shown
    assert "secret" not in shown
    # A client's error may repeat all of it, or the part behind its scheme.
    rest = address.partition("://")[2]
    for text in (f"no such file '{address}'", f"no such file '/{rest}'"):
        assert "secret" not in without_secrets(text, address)


def test_this_machine_is_not_fetched_from(server):
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "2130706433", "127.1", "[::ffff:127.0.0.1]"):
        with pytest.raises(UnreadableVideoError, match=r"not public|unknown"):
            fetch_url(f"http://{host}:{server.server_port}/clip.mp4", policy="http", limits=LIMITS)
    assert server.requests == []


@pytest.mark.parametrize("hops", [1, 3])
def test_three_redirects_are_followed(server, hops):
    assert get(server, f"/hop/{hops}") == server.video


def test_a_fourth_redirect_is_not(server):
    with pytest.raises(UnreadableVideoError, match="more than 3 redirects"):
        get(server, "/hop/4")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http:!!forbidden.test!clip.mp4", "not public"),
        ("file:!!!etc!passwd", "not an allowed URL"),
        ("ftp:!!videos.test!clip.mp4", "not an allowed URL"),
        ("gopher:!!videos.test!1", "not an allowed URL"),
        ("http:!!user:secret@videos.test!clip.mp4", "user name or password"),
        ("http:!!videos.test:99999!clip.mp4", "not a URL"),
    ],
)
def test_every_hop_is_checked(server, target, message):
    with pytest.raises(UnreadableVideoError, match=message):
        get(server, f"/to/{target}")


def test_an_address_that_a_server_names_is_no_longer_than_one_that_is_given(server):
    """Python keeps the last hundred in memory; folded over lines, each may have megabytes."""
    server.location = "/" + "\r\n ".join(["a" * 60_000] * 3)
    with pytest.raises(UnreadableVideoError, match=r"names an address of 180,0.. characters; at most 16,384 are"):
        get(server, "/elsewhere")


def test_https_does_not_lead_to_http():
    with pytest.raises(UnreadableVideoError, match="allow_urls is 'https'"):
        fetch_url("http://videos.test/clip.mp4", policy="https", limits=LIMITS, resolve=here)


def test_every_hop_goes_to_the_address_that_was_checked(server):
    """A name that resolves to another address the second time is not asked a second time."""
    calls = []

    def resolve(host, port):
        calls.append((host, port))
        return ["127.0.0.1"]

    fetch_url(f"http://a.test:{server.server_port}/hop/1", policy="http", limits=LIMITS, resolve=resolve)
    assert calls == [("a.test", server.server_port)] * 2


@pytest.mark.parametrize("path", ["/big", "/endless"])
def test_a_download_beyond_the_size_limit_ends(server, path):
    with pytest.raises(UnreadableVideoError, match=r"larger than VideoLimits\.max_memory_bytes, 100000"):
        get(server, path, limits=VideoLimits(timeout_seconds=10, max_memory_bytes=100_000))


@pytest.mark.parametrize("size", ["-1", "ffffffffffff"])
def test_a_chunk_of_any_size_is_read_up_to_the_limit(server, size):
    limits = VideoLimits(timeout_seconds=30, max_memory_bytes=2**20)
    with pytest.raises(UnreadableVideoError, match=r"larger than VideoLimits\.max_memory_bytes, 1048576"):
        get(server, f"/chunk/{size}", limits=limits)
    # Some is on its way.
    assert server.num_sent < 32 * 2**20


def test_addresses_that_do_not_answer_share_the_time():
    """A socket whose queue is full lets connections hang."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        asked = []
        create = socket.create_connection

        def connect(address, timeout):
            asked.append(timeout)
            return create(address, timeout)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(socket, "create_connection", connect)
            with pytest.raises(UnreadableVideoError, match=r"took longer than 0\.5 seconds"):
                fetch_url(
                    f"http://videos.test:{full.getsockname()[1]}/a.mp4",
                    policy="http",
                    limits=VideoLimits(timeout_seconds=0.5),
                    resolve=lambda host, port: ["127.0.0.1"] * 5,
                )
    assert len(asked) == 1


@pytest.mark.parametrize("path", ["/drip", "/dripping_header"])
def test_a_download_that_drips_ends_in_time(server, path):
    started = time.perf_counter()
    with pytest.raises(UnreadableVideoError, match="longer than 1 seconds"):
        get(server, path, limits=VideoLimits(timeout_seconds=1))
    assert time.perf_counter() - started < 8


def test_a_download_that_ends_early_is_an_error(server):
    with pytest.raises(UnreadableVideoError, match=r"97 bytes too early|failed"):
        get(server, "/short")


@pytest.mark.parametrize("path", ["/gone", "/missing", "/short", "/big", "/garbage", "/hop/4"])
def test_an_error_that_is_kept_keeps_no_connection(server, opened_sockets, path):
    with pytest.raises(UnreadableVideoError) as kept:
        get(server, path)
    assert kept.value.__traceback__
    assert opened_sockets
    assert not opened_sockets & links_of_descriptors()


def test_a_refused_connection_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UnreadableVideoError, match="the download failed"):
        fetch_url(f"http://videos.test:{port}/clip.mp4", policy="http", limits=LIMITS, resolve=here)


def test_a_policy_that_does_not_exist_is_a_value_error():
    with pytest.raises(ValueError, match="allow_urls is 'all', but must be one of 'none', 'https', 'http'"):
        fetch_url("https://videos.test/clip.mp4", policy="all", limits=LIMITS)


@pytest.fixture
def certificate(server, tmp_path):
    """Makes the server one of https, and returns the certificate that it made for itself."""
    if shutil.which("openssl") is None:
        pytest.skip("makes a certificate with the openssl tool")
    key, path = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=videos.test"]
    command += ["-addext", "subjectAltName=DNS:videos.test", "-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return path


def get_safely(server, path: str, *, policy: str = "https", host: str = "videos.test") -> bytes:
    return fetch_url(f"https://{host}:{server.server_port}{path}", policy=policy, limits=LIMITS, resolve=here)


def test_a_certificate_that_nobody_signed_is_refused(server, certificate, opened_sockets):
    with pytest.raises(UnreadableVideoError, match=r"(?i)certificate") as kept:
        get_safely(server, "/clip.mp4")
    assert kept.value.__traceback__
    assert opened_sockets
    assert not opened_sockets & links_of_descriptors()


def test_https_is_fetched_and_never_leads_to_http(server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert get_safely(server, "/clip.mp4") == server.video
    assert get_safely(server, "/hop/2") == server.video
    with pytest.raises(UnreadableVideoError, match=r"(?i)certificate"):
        get_safely(server, "/clip.mp4", host="other.test")
    with socket.create_server(("127.0.0.1", 0)) as plain:
        plain.settimeout(0.2)
        target = f"/to/http:!!videos.test:{plain.getsockname()[1]}!clip.mp4"
        with pytest.raises(UnreadableVideoError, match="not an allowed URL; allow_urls is 'https'"):
            get_safely(server, target)
        with pytest.raises(TimeoutError):
            plain.accept()


def test_https_that_is_cut_is_an_error_and_not_the_end_of_the_answer(server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(UnreadableVideoError, match=r"(?i)eof"):
        get_safely(server, "/cut")


def test_a_resolver_that_hangs_ends_in_time(server):
    released = threading.Event()

    def resolve(host, port):
        released.wait()
        return ["127.0.0.1"]

    try:
        with pytest.raises(UnreadableVideoError, match=r"longer than 0\.2 seconds \(VideoLimits\.timeout_seconds\)"):
            fetch_url(
                f"http://videos.test:{server.server_port}/clip.mp4",
                policy="http",
                limits=VideoLimits(timeout_seconds=0.2),
                resolve=resolve,
            )
        assert not released.is_set()
    finally:
        released.set()
    assert server.requests == []


@pytest.mark.parametrize("path", ["/rude", "/garbage", "/to/x-\x1b:!!videos.test!clip.mp4"])
def test_what_a_server_says_is_shown_without_control_characters_and_in_brief(server, path):
    with pytest.raises(UnreadableVideoError) as caught:
        get(server, path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("host", ["a" * 10_000, "a." * 5_000])
def test_a_long_host_is_told_in_brief(server, host):
    def resolve(name, port):
        return here(name, port) if name == "videos.test" else public_addresses(name, port)

    with pytest.raises(UnreadableVideoError, match=r"^the host 'a") as caught:
        fetch_url(
            f"http://videos.test:{server.server_port}/to/http:!!{host}!", policy="http", limits=LIMITS, resolve=resolve
        )
    assert len(str(caught.value)) < 500


NOT_PUBLIC = """
    127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255 192.0.2.1
    192.0.0.1 192.0.0.8 192.0.0.192 192.88.99.1 168.63.129.16 100.100.100.200 192.175.48.1
    fec0::1 3fff::1 5f00::1 100::1 2001:10::1 64:ff9b:1::1 fd00:ec2::254 ::ffff:168.63.129.16 2002:c000:c0::
    240.0.0.1 ::1 :: fe80::1%eth0 fc00::1 ff02::1 ::ffff:10.0.0.1 64:ff9b::a00:1 2002:7f00:1:: 2001:db8::1
"""


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "151.101.1.6", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_that_are_public(address):
    assert is_public(address)


IPV4 = strategies.ip_addresses(v=4)


@given(IPV4)
def test_an_address_is_as_public_as_the_one_that_it_wraps(address):
    number = int(address)
    wrapped = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
        ipaddress.IPv6Address((0x20010000 << 96) | (0x08080808 << 64) | (number ^ 0xFFFFFFFF)),
    ]
    assert {is_public(str(other)) for other in wrapped} == {is_public(str(address))}


@given(strategies.ip_addresses())
def test_a_public_address_is_a_global_one_of_no_special_use(address):
    # Since Python 3.14, no 6to4 address is global by itself; they are judged by the address that they wrap.
    if is_public(str(address)) and getattr(address, "sixtofour", None) is None:
        assert address.is_global
        assert not address.is_multicast


def no_resolver(host, port):
    raise UnreadableVideoError("the host is looked up")


@settings(max_examples=50)
@given(strategies.text(max_size=60) | strategies.from_regex(r"https?://[^\n]{0,40}", fullmatch=True))
def test_any_text_is_looked_up_or_refused_in_one_printable_line(text):
    for policy in ("none", "https", "http"):
        with pytest.raises(UnreadableVideoError) as caught:
            fetch_url(text, policy=policy, limits=LIMITS, resolve=no_resolver)
        assert str(caught.value).isprintable()
        if "looked up" in str(caught.value):
            assert policy != "none"
            assert text.lower().lstrip().startswith(("https:",) if policy == "https" else ("https:", "http:"))


def test_one_private_address_among_public_ones_refuses_the_host(monkeypatch):
    found = [(2, 1, 6, "", ("8.8.8.8", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    with pytest.raises(UnreadableVideoError, match=r"10\.0\.0\.1, which is not public"):
        public_addresses("mixed.test", 443)


@pytest.mark.parametrize("scheme", ["https", "http", "memory"])
def test_an_address_of_more_characters_than_any_is_refused_at_once(scheme):
    """Python composes the accents of a host in the square of their number."""
    address = f"{scheme}://a" + "\u0301\u0316" * 10**6 + ".test/v.mp4"
    with pytest.raises(VideoDecodeError, match=r"its path has 2,000,0.. characters; at most 16,384 are read") as error:
        decode_frames(address, [0], allow_urls="http")
    assert len(str(error.value)) < 1000
