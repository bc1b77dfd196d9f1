"""The web app, asked by its HTTP API and by a browser: answers, errors, hostile names, and that nobody phones home."""

import asyncio
import contextlib
import errno
import http.client
import io
import json
import logging
import os
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import types
import urllib.error
import urllib.request
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from froster_hf import load_pipeline
from froster_hf.shapes import DEMO_LABELS, STORY, STORY_WINDOWS, render_demo_videos
from tests.fixtures.pages import runs
from tests.fixtures.real_videos import REAL_VIDEOS
from tests.fixtures.subprocesses import REPOSITORY, environment
from tests.fixtures.videos import VIDEO_KINDS, render_video

gradio_client = pytest.importorskip("gradio_client", reason="needs the extra app (make test-extras)")
gradio = pytest.importorskip("gradio", reason="needs the extra app (make test-extras)")

import fastapi  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402

from froster_hf.integrations import app as app_module  # noqa: E402
from froster_hf.integrations.app import WINDOWS, Answering, AppExample, build_app, served_app  # noqa: E402
from froster_hf.integrations.app_requests import (  # noqa: E402
    LEAST_FILE_BYTES,
    MOST_MESSAGES,
    MOST_QUESTION_BYTES,
    MOST_UPLOADS,
    GuardedServer,
    LatestMessages,
    SessionMessages,
    one_line_of_full_descriptors,
    refused_status,
)

LABELS = "\n".join(DEMO_LABELS)
CLEARS = "\x1b[2J\u202e"
HOSTILE = "<img src=x onerror=document.title=1> {{value}} ${1+1}"
MAX_MEGABYTES = 1


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    render_demo_videos(folder)
    # Long enough for the windows of a timeline as they stand.
    render_demo_videos(folder / "long", num_frames=64)[-1].rename(folder / "long.mp4")
    (folder / "damaged.mp4").write_bytes(b"not a video")
    (folder / "large.mp4").write_bytes(bytes(MAX_MEGABYTES * 2**20 + 1))
    return folder


@pytest.fixture(scope="module")
def address(videos):
    story = AppExample(videos / STORY, DEMO_LABELS, STORY_WINDOWS)
    with served_app(load_pipeline("small"), examples=[story], max_megabytes=MAX_MEGABYTES) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
    yield client
    client.close()


def uploaded(path: Path):
    return gradio_client.handle_file(str(path))


def test_labels_are_scored(client, videos):
    answers = client.predict(uploaded(videos / "a_red_star_sliding_left.mp4"), LABELS, api_name="/predict")
    assert answers[0]["label"] == "a red star sliding left"
    assert answers[0]["score"] > 0.9
    assert {answer["label"] for answer in answers} == set(DEMO_LABELS)


def test_a_label_ends_where_a_line_of_a_file_of_labels_does():
    assert app_module._lines("a\u2028b\x0bc\r\n\n d \re") == ["a\u2028b\x0bc", "d", "e"]


def test_one_label_is_compared_with_the_background(client, videos):
    answers = client.predict(
        uploaded(videos / "a_red_star_sliding_left.mp4"),
        "a yellow heart bouncing",
        background="a red star sliding left\na green ring growing",
        api_name="/predict",
    )
    assert [answer["label"] for answer in answers] == ["none of these", "a yellow heart bouncing"]


def test_a_timeline_has_the_segments_of_the_story(client, videos):
    timeline = client.predict(uploaded(videos / STORY), LABELS, **STORY_WINDOWS, api_name="/timeline")
    assert [segment["label"] for segment in timeline["segments"]] == list(DEMO_LABELS)
    assert timeline["segments"][1]["start_seconds"] == pytest.approx(2, abs=0.5)


def test_an_explanation_is_two_pictures(client, videos):
    movie, strip = client.predict(
        uploaded(videos / "a_red_star_sliding_left.mp4"), "a red star sliding left", LABELS, api_name="/explain"
    )
    assert Path(movie).read_bytes()[:4] == b"GIF8"
    assert Path(strip).read_bytes()[:4] == b"\x89PNG"


@pytest.fixture(scope="module")
def index(videos):
    pytest.importorskip("lancedb", reason="needs the extra search (make test-extras)")
    from froster_hf import index_videos

    folder = videos / "index"
    index_videos(
        load_pipeline("small"), [str(videos / "a_red_star_sliding_left.mp4"), str(videos / STORY)], output=folder
    )
    return folder


def test_an_index_is_searched_by_words_and_by_a_video(index, videos):
    with served_app(load_pipeline("small"), index=index) as address:
        client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
        by_words = client.predict("a red star sliding left", top_k=1, api_name="/search")
        by_video = client.predict(None, uploaded(videos / STORY), 1, api_name="/search")
        emptied = client.predict("a red star sliding left", None, None, api_name="/search")
        client.close()
    # Without a number, as many as the page shows at first.
    assert len(emptied) > 1
    assert by_words[0]["video"] == "a_red_star_sliding_left.mp4"
    assert by_video[0]["video"] == STORY
    assert set(by_video[0]) == {"video", "start_seconds", "end_seconds", "score"}


def test_an_index_that_is_gone_is_told_without_its_folder(index, tmp_path, capfd):
    own = tmp_path / "secret_place"
    shutil.copytree(index, own)
    answering = Answering(load_pipeline("small"), own)
    shutil.rmtree(own)
    with pytest.raises(gradio.Error, match="The index cannot be searched any more") as told:
        answering.search("a red star", None)
    assert "secret_place" not in str(told.value)
    assert "secret_place" in capfd.readouterr().err


def test_the_video_of_a_search_is_bounded_as_that_of_a_timeline_is(index, videos, monkeypatch):
    answering = Answering(load_pipeline("small"), index)
    monkeypatch.setattr(app_module, "MOST_TIMELINE_FRAMES", 1)
    with pytest.raises(gradio.Error, match="more than 1 frames in all"):
        answering.search(None, str(videos / STORY))
    assert "more than 1 frames in all" in answering.show_found(None, True, str(videos / STORY), None)
    assert answering.search("a red star", None)


def test_without_an_index_there_is_no_search(address):
    with urllib.request.urlopen(f"{address}gradio_api/info") as response:
        assert set(json.load(response)["named_endpoints"]) == {"/predict", "/timeline", "/explain"}


@runs("docs/guides/app.md")
def test_the_page_of_the_guide_runs(page, address, videos, tmp_path, monkeypatch):
    shutil.copy(videos / STORY, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    namespace = page.run(replacing=("http://127.0.0.1:7860", address))
    assert {"answers", "timeline", "strip"} <= set(namespace)


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("damaged.mp4", LABELS, r"Cannot decode 'damaged\.mp4'"),
        (STORY, " \n ", "Write at least one label, one per line."),
        (STORY, "a\na", "a"),
        (STORY, "a" * 50_001, "at most 50000"),
        (STORY, "\n".join(map(str, range(1001))), "There are 1001 labels; at most 1000 are taken at once"),
    ],
)
def test_errors_are_one_line_without_folders_of_the_server(client, videos, name, labels, message):
    with pytest.raises(gradio_client.exceptions.AppError, match=message) as error:
        client.predict(uploaded(videos / name), labels, api_name="/predict")
    assert "\n" not in str(error.value)
    assert tempfile.gettempdir() not in str(error.value)


def asked(address, endpoint: str, inputs: list) -> str:
    """What the API's stream of events says, of a call whose inputs are as they stand."""
    url, headers = f"{address}gradio_api/call/{endpoint}", {"Content-Type": "application/json"}
    call = json.dumps({"data": inputs}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, call, headers)) as response:
        event = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as response:
        return response.read().decode()


@pytest.mark.parametrize(
    ("endpoint", "inputs", "message"),
    [
        ("predict", [None, {"a": CLEARS}, False, "", None], "Labels, one per line: .* was given; give text"),
        ("predict", [None, ["a", "b"], False, "", None], "Labels, one per line: .* was given; give text"),
        ("predict", [None, LABELS, "yes", "", None], "Each label for itself.* was given; give true or false"),
        ("predict", [None, LABELS, False, "", CLEARS], "Threshold: .* was given; give a number"),
        ("predict", [None, LABELS, False, "", True], "Threshold: True was given; give a number"),
        ("predict", [CLEARS, LABELS, False, "", None], "Video: .* was given; give an uploaded file"),
        ("predict", [{"path": f"/etc/{CLEARS}"}, LABELS, False, "", None], "is not an upload of this page"),
        ("predict", [None, LABELS], "2 values were given; give 5"),
        ("explain", [None, ["a star"], LABELS, "gradient"], "Label: .* was given; give text"),
        ("explain", [None, "a star", LABELS, f"<b>{CLEARS}"], "&lt;b&gt;.* is not in the list of choices"),
    ],
)
def test_inputs_of_other_types_are_one_line_and_nothing_on_the_terminal(address, capfd, endpoint, inputs, message):
    told = asked(address, endpoint, inputs)
    assert told.startswith("event: error")
    assert re.search(message, json.loads(told.partition("data: ")[2])["error"])
    assert tempfile.gettempdir() not in told
    assert capfd.readouterr().err == ""


def test_a_failure_of_the_program_is_one_line_on_the_terminal(address, capfd, monkeypatch):
    def fail(*arguments):
        raise RuntimeError(f"no such thing:\n{CLEARS}")

    monkeypatch.setattr("froster_hf.integrations.app._options", fail)
    assert "The server failed" in asked(address, "predict", [None, LABELS, False, "", None])
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(r"froster: a request failed: RuntimeError: no such thing: \x1b[2J\u202e")


def test_a_failure_outside_of_the_page_is_one_line_on_the_terminal(capfd):
    sent = []

    async def failing(scope, receive, send):
        raise OSError(f"/tmp/{CLEARS} cannot be read")

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(GuardedServer(failing)(scope, None, send))
    assert sent[0]["status"] == 500
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(r"froster: a request failed: OSError: /tmp/\x1b[2J\u202e cannot be read")


def answered(request: urllib.request.Request | str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("gradio_api/process_recording", b"--b\r\n"),
        ("gradio_api/file=http://videos.test/a.mp4", None),
        ("gradio_api/file=%20https:%2F%2Fvideos.test/a.mp4", None),
        ("gradio_api/proxy=http://127.0.0.1:1/", None),
        ("gradio_api/custom_component/%1b%5d0;PWNED%07/server/x/%1b%5b2Jy", None),
        ("gradio_api/component_server", b"{}"),
        ("gradio_api/vibe-edit", b"{}"),
        ("gradio_api/cancel", b"{}"),
        ("gradio_api/file/etc/passwd", None),
        ("monitoring", None),
        ("login", b""),
        ("nothing/%1b%5b2J", None),
    ],
)
def test_routes_that_the_page_does_not_need_are_not_served(address, capfd, path, body):
    """Of Gradio's: one runs FFmpeg on uploads, with what the server knows; others fetch addresses, print, or go on."""
    shared = Path(tempfile.gettempdir(), "gradio")
    before = set(shared.rglob("*"))
    assert answered(urllib.request.Request(f"{address}{path}", body)) == (404, b"Not Found")
    assert capfd.readouterr() == ("", "")
    assert set(shared.rglob("*")) == before


def test_one_question_is_answered_at_a_time_whoever_leaves(address, monkeypatch):
    """A thread cannot be ended: were its question canceled, or one asked beside the queue, there would be two."""
    at_once, most_at_once = threading.Semaphore(1), threading.Event()

    def answer(*arguments):
        if not at_once.acquire(blocking=False):
            most_at_once.set()
            return []
        time.sleep(0.3)
        at_once.release()
        return []

    monkeypatch.setattr(Answering, "_answers", answer)
    client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
    fn_index = next(one["id"] for one in client.config["dependencies"] if one["api_name"] == "predict")
    question = {"data": [None, LABELS, False, "", None], "fn_index": fn_index}

    def send(route: str, **names: str) -> tuple[int, bytes]:
        body, headers = json.dumps({**question, **names}).encode(), {"Content-Type": "application/json"}
        return answered(urllib.request.Request(f"{address}gradio_api/{route}", body, headers))

    for number in range(3):
        session = f"leaves-{number}"
        status, joined = send("queue/join", session_hash=session)
        assert status == 200
        time.sleep(0.1)
        send("cancel", session_hash=session, event_id=json.loads(joined)["event_id"])
        assert send("run/predict")[0] == send("run/choices")[0] == 404
    assert asked(address, "predict", question["data"]).startswith("event: complete")
    assert not most_at_once.is_set()


def test_what_gradio_may_come_to_serve_is_not_served_unasked(address):
    """Each route of the installed release is either known, or refused."""
    import gradio

    served = set()
    for route in gradio.routes.App.create_app(gradio.Blocks()).routes:
        path = re.sub(r"{[^}]*}", "x", getattr(route, "path", ""))
        for method in getattr(route, "methods", None) or ():
            scope = {"method": method, "path": path, "headers": [(b"content-length", b"2")]}
            if refused_status(scope, max_upload_bytes=1) is None:
                served.add(path.strip("/").removeprefix("gradio_api/").partition("/")[0].partition("=")[0])
    assert served <= {
        *("", "config", "theme.css", "favicon.ico", "robots.txt", "manifest.json", "assets", "static", "svelte"),
        *("info", "openapi.json", "app_id", "startup-events", "upload", "queue", "heartbeat"),
        *("call", "file", "reset"),
    }


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": str(2 * 2**20 + 1)}, 413),
        ({"Content-Length": "1" * 30}, 411),
        ({"Transfer-Encoding": "chunked"}, 411),
    ],
)
@pytest.mark.parametrize("path", ["/gradio_api/call/predict", "/gradio_api/queue/join", "/gradio_api/upload"])
def test_a_request_without_a_length_or_beyond_any_question_is_refused_unread(address, path, headers, status):
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest("POST", path)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            connection.putheader(name, value)
        # Nothing of the body is sent.
        connection.endheaders()
        assert connection.getresponse().status in (status, 400)


@pytest.mark.parametrize(
    "question",
    [
        {"data": [], "fn_index": 0, "session_hash": "a" * 100_000},
        {"data": [], "fn_index": 0, "session_hash": ["a"] * 100},
        {"data": [], "fn_index": 0, "session_hash": ""},
        {"data": [], "fn_index": 0, "session_hash": "\ud800"},
        {"data": [], "fn_index": 0, "session_hash": "a", "event_id": "\ud800"},
        {"data": [], "fn_index": "\ud800", "session_hash": "a"},
        {"data": "\ud800", "fn_index": 0, "session_hash": "a"},
        {"data": ["\ud800"], "fn_index": 0, "session_hash": "a"},
        {"data": [{"a\udc00": [1]}], "fn_index": 0, "session_hash": "a"},
        {"data": [{}] * 10_000, "fn_index": 0, "session_hash": "a"},
        {"data": [[[["a"] * 2000]]], "session_hash": "a"},
        [],
        "[" * 100_000,
        '{"data": NaN, "session_hash": "a"}',
        '{"data": [1%s], "session_hash": "a"}' % ("0" * 400),
        '{"data": [-1e400], "session_hash": "a"}',
    ],
    ids=[
        *(
            "a long name",
            "a name that is a list",
            "an empty name",
            "half of a character as a name",
            "half of one as an event",
        ),
        *("half of one as a number", "half of one as inputs", "half of one in an input", "half of one within"),
        *("many values", "many values within", "no object", "too deep"),
        *("no number", "a whole number beyond all", "a number beyond all"),
    ],
)
@pytest.mark.parametrize(
    "path", [f"/gradio_api/{route}" for route in ("queue/join", "call/predict", "run/predict", "run/choices", "reset")]
)
def test_what_is_no_question_of_the_page_reaches_no_queue(address, path, question):
    """Gradio keeps names of sessions, however long, for whoever never reads an answer."""
    body = question if isinstance(question, str) else json.dumps(question)
    with contextlib.closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)) as connection:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (400, b"Not a question of this page.")


@pytest.mark.parametrize(
    ("path", "fields"),
    [("call/nothing", {}), ("run/nothing", {}), ("queue/join", {"fn_index": 999}), ("queue/join", {"fn_index": -1})],
)
def test_a_question_to_a_function_that_the_page_does_not_have_is_refused_in_silence(address, capfd, path, fields):
    body = json.dumps({"data": [], "session_hash": "a", **fields}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}gradio_api/{path}", body, headers)
    assert answered(request) == (400, b"Not a question of this page.")
    assert capfd.readouterr().err == ""


HANDSHAKE = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n" + HANDSHAKE + b"\r\n\r\n", b"403"),
        (b"GET /queue HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n" + HANDSHAKE + b"\r\n\r\n", b"403"),
        (b"\x16\x03\x01\x00\x05hello\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n", b"421"),
    ],
    ids=["websocket", "websocket elsewhere", "not HTTP", "another protocol"],
)
def test_what_is_not_a_request_of_http_is_refused_in_silence(address, capfd, request_bytes, status):
    with socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=30) as connection:
        connection.sendall(request_bytes)
        answer = connection.makefile("rb").readline()
    assert answer.split()[1] == status
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "path",
    [
        f"/gradio_api/queue/data?session_hash={'a' * 3000}",
        f"/gradio_api/heartbeat/{'a' * 3000}",
        f"/gradio_api/call/predict?{'a' * 3000}",
        f"/assets/{'a' * 3000}.js",
        f"/?{'a' * 3000}",
    ],
    ids=lambda path: path[:20],
)
def test_addresses_longer_than_any_of_the_page_are_refused(address, capfd, path):
    body = b"{}" if "call" in path else None
    assert answered(urllib.request.Request(f"{address.rstrip('/')}{path}", body)) == (414, b"URI Too Long")
    assert capfd.readouterr() == ("", "")


def test_what_questions_say_is_not_kept(videos):
    """Gradio keeps the fields of a page, with what stands in them, for each session, and anybody may name sessions."""
    app = build_app(load_pipeline("small"))
    client = gradio.routes.App.create_app(app)
    said = "an action that nobody else asks for"
    for number in range(app_module.MOST_SESSIONS + 5):
        state = client.state_holder[f"session {number}"]
    endpoint = next(entry for entry in app.fns.values() if entry.api_name == "predict")
    with pytest.raises(gradio.Error, match="video"):
        asyncio.run(app.process_api(endpoint, [None, said, False, None, None], state=state))
    assert len(client.state_holder.session_data) <= app_module.MOST_SESSIONS + 1
    assert said not in repr(state.config_values)


def test_many_sessions_take_no_answer_from_those_that_wait(monkeypatch):
    """Gradio would forget the session that was made first, and end its queue over the question that it has asked."""
    monkeypatch.setattr(app_module, "MOST_SESSIONS", 2)
    may_go_on, is_at_work = threading.Event(), threading.Event()

    def predict(answering, *inputs):
        is_at_work.set()
        assert may_go_on.wait(60)
        return []

    monkeypatch.setattr(app_module.Answering, "predict", predict)
    with served_app(load_pipeline("small")) as address:
        call = f"{address}gradio_api/call/predict"

        def ask():
            body = json.dumps({"data": [None, "a", False, None, None]}).encode()
            status, answer = answered(urllib.request.Request(call, body, {"Content-Type": "application/json"}))
            assert status == 200
            return json.loads(answer)["event_id"]

        first = ask()
        assert is_at_work.wait(60)
        asked = [first, *(ask() for _ in range(4))]
        may_go_on.set()
        for question in asked:
            assert b"event: " in answered(urllib.request.Request(f"{call}/{question}"))[1]
        # Those that nobody waits for are forgotten.
        for _ in range(3):
            answered(urllib.request.Request(f"{call}/{ask()}"))


def test_messages_are_kept_for_sessions_that_ask_and_the_latest_others():
    asking = {event: types.SimpleNamespace(session_hash=session) for event, session in enumerate("bd")}
    kept = SessionMessages(types.SimpleNamespace(event_ids_to_events=asking), 2)
    for session in "abcdef":
        kept[session] = asyncio.Queue()
    assert list(kept) == ["b", "d", "f"]
    kept["a session that was forgotten"].put_nowait("a message")
    assert list(kept) == ["b", "d", "f"]


def test_of_a_session_that_asks_on_and_reads_nothing_the_latest_messages_are_kept():
    kept = SessionMessages(types.SimpleNamespace(event_ids_to_events={}), 2)
    kept["a"] = asyncio.Queue()
    for number in range(3 * MOST_MESSAGES):
        kept["a"].put_nowait(number)
    assert isinstance(kept["a"], LatestMessages)
    assert [kept["a"].get_nowait() for _ in range(kept["a"].qsize())] == [*range(2 * MOST_MESSAGES, 3 * MOST_MESSAGES)]


def test_a_folder_of_uploads_that_the_system_has_cleaned_away_is_made_again(address):
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    shutil.rmtree(folder)
    assert upload(address)[0] == 200
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_names_of_uploads_are_not_kept(address):
    kept = gradio.routes.file_upload_statuses
    assert upload(address, "?upload_id=abc")[0] == 200
    assert answered(f"{address}gradio_api/upload_progress?upload_id=abc") == (404, b"Not Found")
    assert not kept._statuses
    assert not kept._signals


def test_connections_beyond_all_descriptors_are_one_line(capfd):
    handler = logging.StreamHandler()
    logging.getLogger("asyncio").addHandler(handler)
    try:
        with one_line_of_full_descriptors(), contextlib.closing(asyncio.new_event_loop()) as loop:
            for _ in range(100):
                full = {
                    "message": "socket.accept() out of system resource",
                    "exception": OSError(errno.EMFILE, "full"),
                }
                loop.call_exception_handler(full)
            logging.getLogger("asyncio").error("something else")
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    assert capfd.readouterr().err.splitlines() == ["froster: no further connections can be taken", "something else"]


def headers_answered(address: str, method: str, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    try:
        body = b"{}" if method == "POST" else None
        connection.request(method, path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:7860"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "evil.example@localhost"}, 200),  # no browser sends one, and its host is this machine
        ({"Host": "192.168.0.7"}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost:7860"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:7860"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
    ],
    ids=str,
)
def test_on_this_machine_alone_no_other_name_and_no_other_page_is_answered(address, capfd, headers, status):
    assert headers_answered(address, "GET", "/config", headers) == status
    # An upload needs no answer to fill the disk.
    posted = headers_answered(address, "POST", "/gradio_api/upload", headers)
    assert (posted in (403, 421)) == (status != 200)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-Gradio-Server"])
@pytest.mark.parametrize("host", ["[::", "app.example:port", "a\x85b", "a" * 64 + "\xe9.example"], ids=ascii)
def test_a_host_that_no_address_has_is_refused_before_it_reaches_gradio(address, capfd, name, host):
    headers = {name: (host if name == "X-Forwarded-Host" else f"http://{host}").encode("latin-1")}
    assert headers_answered(address, "GET", "/config", headers) == 400
    assert headers_answered(address, "POST", "/gradio_api/call/predict", headers) == 400
    assert headers_answered(address, "GET", "/config", {name: "app.example, other.example"}) == 200
    assert capfd.readouterr() == ("", "")


def test_a_proxys_name_is_answered_where_it_is_given():
    ask = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"app.example:80")]}
    assert refused_status(ask, max_upload_bytes=1, names=[]) == 421
    assert refused_status(ask, max_upload_bytes=1, names=["app.example"]) is None
    # On every network, and in an app of one's own, names are not known.
    assert refused_status(ask, max_upload_bytes=1) is None
    foreign = {**ask, "headers": [*ask["headers"], (b"origin", b"https://other.example")]}
    assert refused_status(foreign, max_upload_bytes=1, names=["app.example"]) == 403


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ([5000, 0.05, 0], "`window_seconds` is 5000; from 0 to 100 times the 0.05 of `stride_seconds` are taken"),
        ([4, 0.05, 50], "`smoothing_seconds` is 50; from 0 to 100 times"),
        ([4, 0.05, float("inf")], "`smoothing_seconds` is inf"),
        ([4, 0.05, float("nan")], "`smoothing_seconds` is nan"),
        ([float("nan"), 2, 4], "`window_seconds` is nan"),
        ([4, float("nan"), 4], "of `stride_seconds`"),
        (
            [0.02, 0.0005, 0],
            "'slow.mkv' with the times asked for: in 3600 s there is one window every 0.0005 s",
        ),
    ],
    ids=str,
)
def test_a_timeline_is_bounded_whatever_is_asked_and_however_long_the_video_says_it_is(tmp_path, seconds, message):
    slow = render_video(tmp_path / "slow.mkv", replace(VIDEO_KINDS["h264_mkv"], fps=Fraction(1, 1800)), num_frames=2)
    answering = Answering(load_pipeline("small"))
    with pytest.raises(gradio.Error, match=message):
        answering.timeline(str(slow), LABELS, False, None, None, *seconds)
    picture, told = answering.show_timeline(str(slow), LABELS, False, None, None, *seconds)
    assert picture is None
    assert "of `stride_seconds`" in told or "(`stride_seconds`)" in told


def test_labels_beyond_those_of_a_question_are_no_failure_where_one_is_chosen(videos):
    answering = Answering(load_pipeline("small"))
    assert len(answering.choices("\n".join(map(str, range(1000)))).choices) == 1000
    with pytest.raises(gradio.Error, match="There are 1001 labels; at most 1000"):
        answering.choices("\n".join(map(str, range(1001))))


def test_segments_without_number_are_refused(videos, monkeypatch):
    monkeypatch.setattr(app_module, "MOST_SEGMENTS", 2)
    answering = Answering(load_pipeline("small"))
    seconds = WINDOWS | STORY_WINDOWS
    with pytest.raises(gradio.Error, match=r"more than 2 segments, .* ask for fewer or shorter labels, or raise"):
        answering.timeline(str(videos / STORY), LABELS, **seconds)


def test_long_labels_of_segments_count_as_several(videos, monkeypatch):
    """An answer writes the label into each of its segments."""
    monkeypatch.setattr(app_module, "MOST_SEGMENTS", 10)
    answering = Answering(load_pipeline("small"))
    seconds = WINDOWS | STORY_WINDOWS
    assert answering.timeline(str(videos / STORY), LABELS, **seconds)["segments"]
    # Blanks are no tokens: it is the same label to the model.
    long = LABELS.replace(DEMO_LABELS[0], DEMO_LABELS[0].replace(" ", " " * 400))
    with pytest.raises(gradio.Error, match="more than 10 segments, or as much text in fewer"):
        answering.timeline(str(videos / STORY), long, **seconds)


@pytest.mark.parametrize("name", [f"a{CLEARS[-1]}b.mp4", "a'b.mp4", f"{'a' * 200}.mp4"])
def test_no_name_of_a_video_makes_an_error_tell_the_folder_of_uploads(client, tmp_path, name):
    (tmp_path / name).write_bytes(b"not a video")
    with pytest.raises(gradio_client.exceptions.AppError, match=r"Cannot decode") as error:
        client.predict(uploaded(tmp_path / name), LABELS, api_name="/predict")
    assert os.environ["GRADIO_TEMP_DIR"] not in str(error.value)


def test_without_a_video_it_says_so(client):
    with pytest.raises(gradio_client.exceptions.AppError, match=r"Upload a video first\."):
        client.predict(None, LABELS, api_name="/predict")


def test_no_address_is_fetched_and_no_file_of_the_server_is_read(client, address, videos):
    for path, message in (
        ("https://example.org/a.mp4", "Addresses are not fetched"),
        (str(videos / STORY), "is not an upload of this page"),
    ):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        told = asked(address, "predict", [file, LABELS, False, "", None])
        assert told.startswith("event: error")
        assert message in told


def test_an_app_within_another_reads_no_file_of_its_server(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    app_kwargs = {"middleware": [Middleware(GuardedServer)]}
    mounted = gradio.mount_gradio_app(
        fastapi.FastAPI(), build_app(load_pipeline("small")), path="/froster", app_kwargs=app_kwargs
    )
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "link.mp4").symlink_to(videos / STORY)
    with TestClient(mounted, base_url="http://localhost") as server:

        def told(path):
            data = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}, LABELS, False, "", None]
            event = server.post("/froster/gradio_api/call/predict", json={"data": data}).json()["event_id"]
            return server.get(f"/froster/gradio_api/call/predict/{event}").text

        content = (videos / "a_red_star_sliding_left.mp4").read_bytes()
        (path,) = server.post("/froster/gradio_api/upload", files={"files": ("a.mp4", content)}).json()
        assert told(path).startswith("event: complete")
        elsewhere = (videos / STORY, "/etc/passwd", "/no/such/file", f"{tmp_path}/uploads/../{videos / STORY}")
        for path in (*elsewhere, tmp_path / "uploads" / "link.mp4"):
            assert told(path).startswith("event: error")
            assert "is not an upload of this page" in told(path)
        assert server.get(f"/froster/gradio_api/file={videos / STORY}").status_code in (403, 404)


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_a_folder_of_uploads_is_no_upload(client, address, videos, place):
    # Gradio counts it among the files that it deletes after an hour, and deletes nothing any more when it cannot.
    with open(videos / STORY, "rb") as video:
        content = video.read()
    form = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n%b\r\n--B--\r\n' % content
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    _, answer = answered(urllib.request.Request(f"{address}gradio_api/upload", form, headers))
    (path,) = json.loads(answer)
    folder = os.path.normpath(os.path.join(os.path.dirname(path), place))
    told = asked(address, "predict", [{"path": folder, "meta": {"_type": "gradio.FileData"}}, LABELS, False, "", None])
    assert told.startswith("event: error")
    assert "is not an upload of this page" in told


def test_an_upload_that_is_too_large_is_refused(client, videos):
    with pytest.raises(Exception, match=r"(?i)size|413|large"):
        client.predict(uploaded(videos / "large.mp4"), LABELS, api_name="/predict")


FORM = (
    b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n'
    + b"x" * 2**19
)


@pytest.mark.parametrize("kind", ["breaks off", "is not a form", "has a second part that is none"])
def test_an_upload_that_is_not_whole_leaves_nothing(address, capfd, kind):
    body = {"breaks off": FORM, "is not a form": b"x" * 200}.get(kind, FORM + b"\r\n--B\r\ngarbage\r\n\x00:\r\n")
    length = len(body) + (1000 if kind == "breaks off" else 0)
    parts, folder = urlsplit(address), Path(os.environ["GRADIO_TEMP_DIR"])
    before = set(folder.rglob("*"))
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/gradio_api/upload")
        connection.putheader("Content-Type", "multipart/form-data; boundary=B")
        connection.putheader("Content-Length", str(length))
        connection.endheaders(body)
        if kind != "breaks off":
            assert connection.getresponse().status in (400, 413, 500)
    # The server has seen that before it answers another one.
    whole = urllib.request.Request(
        f"{address}gradio_api/upload", FORM + b"\r\n--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}
    )
    status, told = answered(whole)
    assert status == 200
    (kept,) = json.loads(told)
    assert Path(kept).read_bytes() == b"x" * 2**19
    left = {path for path in set(folder.rglob("*")) - before if path.is_file()}
    assert left <= {Path(kept)}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("end", [b"", b"--B--", b"\r\n--B--\r\n"])
def test_an_upload_to_an_app_within_another_that_is_not_whole_leaves_nothing(tmp_path, monkeypatch, end):
    """Whatever it leaves would take room from all later ones, for ever."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    app_kwargs = {"middleware": [Middleware(GuardedServer)]}
    mounted = gradio.mount_gradio_app(
        fastapi.FastAPI(), build_app(load_pipeline("small")), path="/froster", app_kwargs=app_kwargs
    )
    others = tmp_path / "tmpofothers"
    others.write_bytes(b"of another app that reads a form")
    form = FORM.replace(b'"files"', b'"others"') if end.endswith(b"\r\n") else FORM
    with TestClient(mounted, base_url="http://localhost") as server:
        headers = {"Content-Type": "multipart/form-data; boundary=B"}
        assert server.post("/froster/gradio_api/upload", content=form + end, headers=headers).status_code == 200
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [others]
        assert len(server.post("/froster/gradio_api/upload", files={"files": ("a.mp4", b"a")}).json()) == 1


def test_an_upload_that_the_disk_does_not_take_is_told_and_leaves_nothing(address, monkeypatch, capfd):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("froster_hf.integrations.app_requests.tempfile.TemporaryFile", lambda dir: Full())
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    status, told = answered(urllib.request.Request(f"{address}gradio_api/upload", FORM, headers))
    assert (status, told) == (507, b"The server has no room for this request. Try again later.")
    assert capfd.readouterr() == ("", "")


def upload(address, query: str = "", *, form: bytes = FORM) -> tuple[int, bytes]:
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    return answered(urllib.request.Request(f"{address}gradio_api/upload{query}", form + b"\r\n--B--\r\n", headers))


def test_what_is_not_a_file_in_a_form_is_not_held_in_memory(address, capfd):
    for size, expected in ((2**10, 200), (2**10 + 1, 400)):
        field = b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"x" * size + b"\r\n"
        assert upload(address, form=field + FORM)[0] == expected
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("query", ["", "?upload_id=abc"])
def test_a_form_without_a_file_is_refused_and_nothing_is_printed(address, capfd, query):
    form = FORM.replace(b'; filename="a.mp4"', b"")
    assert upload(address, query, form=form) == (400, b"Not a question of this page.")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("asked", "status", "num_bytes"),
    [
        ("bytes=1-2", 206, 2),
        ("bytes=-2", 206, 2),
        ("bytes=0-0,1-1", 200, 2**19),
        ("bytes=--5", 200, 2**19),
        ("bytes=²-3", 200, 2**19),
    ],
)
def test_a_range_that_gradio_cannot_read_gets_the_whole_file(address, capfd, asked, status, num_bytes):
    (path,) = json.loads(upload(address)[1])
    with contextlib.closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)) as connection:
        connection.request("GET", f"/gradio_api/file={path}", headers={"Range": asked.encode("latin-1")})
        answer = connection.getresponse()
        assert (answer.status, len(answer.read())) == (status, num_bytes)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["large", "many"])
def test_all_uploads_together_have_a_bound_and_who_finds_no_room_is_told(kind, capfd):
    with served_app(load_pipeline("small"), max_megabytes=MAX_MEGABYTES) as address:
        kept = Path(os.environ["GRADIO_TEMP_DIR"], "kept")
        kept.mkdir()
        room = MOST_UPLOADS * MAX_MEGABYTES * 2**20
        # A file takes room, however small it is.
        for number in range(1 if kind == "large" else room // LEAST_FILE_BYTES + MOST_UPLOADS):
            with (kept / f"{number}.mp4").open("wb") as file:
                file.truncate(room + 2**20 if kind == "large" else 1)
        capfd.readouterr()
        assert upload(address) == (507, b"The server has no room for this request. Try again later.")
        assert {path for path in kept.parent.rglob("*") if path.is_file()} == set(kept.iterdir())
        shutil.rmtree(kept)
        assert upload(address)[0] == 200
        assert capfd.readouterr() == ("", "")


class Uploads:
    """A server that is asked without a connection.

    Args:
        folder: of uploads.
    """

    size = 2**20
    path = "/gradio_api/upload"

    def __init__(self, folder: Path):
        self.statuses: list[int] = []
        self.server = GuardedServer(self.keep, max_upload_bytes=self.size, folder=str(folder))

    async def keep(self, scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def send(self, message):
        if "status" in message:
            self.statuses.append(message["status"])

    async def upload(
        self, *chunks: bytes, rest: asyncio.Event | None = None, arrived: asyncio.Semaphore | None = None
    ):
        """A form of the largest size, of which the last chunk waits for `rest`."""
        left = list(chunks)

        async def receive():
            if len(left) == 1 and rest is not None:
                arrived and arrived.release()
                await rest.wait()
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        headers = [(b"content-length", str(self.size).encode())]
        scope = {"type": "http", "method": "POST", "path": self.path, "headers": headers}
        await self.server(scope, receive, self.send)


def test_what_has_arrived_of_uploads_takes_room_until_they_end(tmp_path):
    async def fill():
        uploads, rest, arrived = Uploads(tmp_path), asyncio.Event(), asyncio.Semaphore(0)
        # What forms have around their files makes one more fit.
        whole = [
            uploads.upload(bytes(uploads.size - 1), b"x", rest=rest, arrived=arrived) for _ in range(MOST_UPLOADS + 1)
        ]
        arriving = [asyncio.create_task(upload) for upload in whole]
        for _ in arriving:
            await arrived.acquire()
        await uploads.upload(b"x")
        assert uploads.statuses == [507]
        rest.set()
        await asyncio.gather(*arriving)
        assert uploads.statuses == [507] + [200] * (MOST_UPLOADS + 1)
        await uploads.upload(b"x")
        assert uploads.statuses[-1] == 200

    asyncio.run(fill())


def test_long_questions_that_are_not_whole_wait_on_the_disk(tmp_path):
    """Each may have 2 MB, and there are as many at once as connections."""
    number, size = 30, 2**19
    start, end = b'{"data": ["', b'"]}'
    chunk = bytes(size).replace(b"\0", b"x")
    asked, most = [], 0

    async def ask():
        nonlocal most

        async def keep(scope, receive, send):
            asked.append((await receive())["body"])
            await asyncio.sleep(0)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})

        questions, rest, arrived = Uploads(tmp_path), asyncio.Event(), asyncio.Semaphore(0)
        questions.path, questions.server.app = "/gradio_api/queue/join", keep
        tracemalloc.start()
        waiting = [
            asyncio.create_task(questions.upload(start, chunk, end, rest=rest, arrived=arrived)) for _ in range(number)
        ]
        for _ in waiting:
            await arrived.acquire()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert questions.server._arriving_bytes == number * (len(start) + size)
        await questions.upload(b'{"data": ["short"]}')
        assert questions.statuses == [200]
        rest.set()
        await asyncio.gather(*waiting)
        assert questions.statuses == [200] * (number + 1)
        assert questions.server._arriving_bytes == 0

    asyncio.run(ask())
    assert asked == [b'{"data": ["short"]}'] + [start + chunk + end] * number
    assert most < number * size / 4
    assert not list(tmp_path.iterdir())


def test_who_holds_many_long_questions_keeps_no_short_one_from_being_answered(capfd):
    """They take the room of uploads, and are told when there is none."""
    with served_app(load_pipeline("small"), max_megabytes=MAX_MEGABYTES) as address, contextlib.ExitStack() as held:
        host, port = urlsplit(address).hostname, urlsplit(address).port
        request = (
            f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {MOST_QUESTION_BYTES}\r\n\r\n"
        ).encode()
        connections = []
        for _ in range(MOST_UPLOADS):
            connections.append(held.enter_context(socket.create_connection((host, port), timeout=30)))
            with contextlib.suppress(OSError):  # It is refused before all of it has come.
                connections[-1].sendall(request + bytes(MOST_QUESTION_BYTES - 1))
        until = time.monotonic() + 60
        while len(refused := select.select(connections, [], [], 1)[0]) < MOST_UPLOADS // 2 - 1:
            assert time.monotonic() < until
        for connection in refused:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(12) == b"HTTP/1.1 507"
        body = json.dumps({"data": [None, LABELS, False, None, None]}).encode()
        call = f"{address}gradio_api/call/predict"
        status, answer = answered(urllib.request.Request(call, body, {"Content-Type": "application/json"}))
        assert status == 200
        assert b"event: error" in answered(f"{call}/{json.loads(answer)['event_id']}")[1]
        assert capfd.readouterr() == ("", "")


def test_what_uploads_say_that_they_will_have_takes_no_room_from_others(tmp_path):
    async def hold():
        uploads, rest, arrived = Uploads(tmp_path), asyncio.Event(), asyncio.Semaphore(0)
        held = [asyncio.create_task(uploads.upload(b"x", b"x", rest=rest, arrived=arrived)) for _ in range(40)]
        for _ in held:
            await arrived.acquire()
        await uploads.upload(bytes(uploads.size))
        assert uploads.statuses == [200]
        rest.set()
        await asyncio.gather(*held)

    asyncio.run(hold())


def test_an_upload_that_does_not_go_on_is_ended(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("froster_hf.integrations.app_requests.PROGRESS_SECONDS", 0.01)

    async def wait():
        uploads = Uploads(tmp_path)
        await uploads.upload(b"x", b"x", rest=asyncio.Event())
        assert uploads.statuses == [408]
        monkeypatch.setattr("froster_hf.integrations.app_requests.PROGRESS_SECONDS", 60.0)
        await uploads.upload(bytes(uploads.size))
        assert uploads.statuses == [408, 200]

    asyncio.run(wait())
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", ["queue/data?session_hash=unknown", "call/predict/unknown", "call/x/unknown"])
def test_answers_that_nobody_has_are_refused_and_nothing_is_printed(address, capfd, path):
    capfd.readouterr()
    status, told = answered(f"{address}gradio_api/{path}")
    assert (status, b"404: Not Found" in told) == (200, True)
    # A stream's end comes before the server's own words of it.
    assert answered(f"{address}gradio_api/app_id")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_failure_in_a_stream_is_one_line_on_the_terminal_and_ends_it(capfd):
    sent = []

    async def failing(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("no such thing")

    async def send(message):
        sent.append(message)

    asyncio.run(GuardedServer(failing)({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("froster: a request failed: RuntimeError: no such thing")


def test_browsers_are_told_to_load_nothing_from_elsewhere(address):
    with urllib.request.urlopen(address) as response:
        policy, page = response.headers["Content-Security-Policy"], response.read().decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "fonts.googleapis.com" not in page


def test_uploads_are_gone_when_the_app_ends(videos):
    before = os.environ.get("GRADIO_TEMP_DIR")
    with served_app(load_pipeline("small")) as address:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
        client.predict(uploaded(videos / STORY), LABELS, api_name="/predict")
        client.close()
        assert list(folder.rglob(STORY))
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert os.environ.get("GRADIO_TEMP_DIR") == before


def test_pictures_of_an_app_that_is_mounted_elsewhere_are_deleted_by_age(videos, tmp_path, monkeypatch):
    from gradio.route_utils import delete_files_created_by_app

    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    classify = load_pipeline("small")
    app = build_app(classify)
    movie, strip = Answering(classify).explain(
        str(videos / "a_red_star_sliding_left.mp4"), "a red star sliding left", LABELS
    )
    shown = next(block for block in app.blocks.values() if block.get_block_name() == "image")
    for path in (movie, strip):
        shown.move_resource_to_block_cache(path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {Path(movie).name, Path(strip).name}
    delete_files_created_by_app(app, age=0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix in (".gif", ".png")]


def test_pictures_of_the_oldest_answers_are_deleted(videos, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(app_module, "MOST_PICTURES", 2)
    answering = Answering(load_pipeline("small"))
    question = str(videos / "a_red_star_sliding_left.mp4"), "a red star sliding left", LABELS
    given = [answering.explain(*question) for _ in range(4)]
    assert [[os.path.exists(path) for path in paths] for paths in given] == [[False, False]] * 2 + [[True, True]] * 2
    assert len(list(tmp_path.iterdir())) == 2


SERVED_AND_ASKED = """
import ipaddress, sys
asked = []

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        asked.append(arguments[1][0])
    elif event == "socket.getaddrinfo":
        asked.append(arguments[0])

sys.addaudithook(watch)
import gradio_client
from froster_hf import load_pipeline
from froster_hf.integrations.app import served_app

def is_here(host):
    host = host.decode() if isinstance(host, bytes) else host
    try:
        return host in (None, "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

with served_app(load_pipeline("small")) as address:
    client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
    print(client.predict(gradio_client.handle_file(sys.argv[1]), "a star\\na ring", api_name="/predict")[0]["label"])
    client.close()
assert any(map(is_here, asked)), asked
print(sorted({str(host) for host in asked if not is_here(host)}))
"""


def test_the_server_asks_nothing_of_other_machines(videos):
    command = [sys.executable, "-c", SERVED_AND_ASKED, str(videos / "a_red_star_sliding_left.mp4")]
    variables = {name: value for name, value in environment().items() if not name.startswith("GRADIO_")}
    finished = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout == "a star\n[]\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_verb_serves_until_it_is_ended_and_leaves_nothing(videos, number, tmp_path):
    command = [sys.executable, "-m", "froster_hf", "app", "--model", "small"]
    # A shell that starts the tests in the background ignores SIGINT, and so do the processes below it; one that is
    # handled is not passed on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    variables = environment(TMPDIR=str(tmp_path))
    process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    try:
        told = next(line for line in process.stderr if "the app is at" in line)
        address = re.search(r"http://127\.0\.0\.1:\d+/", told)[0]
        client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
        assert client.predict(uploaded(videos / STORY), LABELS, api_name="/predict")
        client.close()
        with urllib.request.urlopen(f"{address}config") as response:
            assert "one after the other" in response.read().decode()
    finally:
        process.send_signal(number)
        rest = process.communicate()[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in rest
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_front_matter_of_the_space_names_what_it_runs(space):
    import yaml
    from packaging.requirements import Requirement

    folder = REPOSITORY / "examples" / "space"
    front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["sdk"] == "gradio"
    assert (folder / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60  # the Hub's limit
    (requirement,) = map(Requirement, (folder / "requirements.txt").read_text().splitlines())
    assert (requirement.name, requirement.extras) == ("froster-hf", {"app"})
    (gradio,) = re.findall(r'"(gradio[^"]*)"', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert Requirement(gradio).specifier.contains(front["sdk_version"])


@pytest.fixture(scope="module")
def space():
    """The app.py of examples/space, imported."""
    import runpy

    return runpy.run_path(str(REPOSITORY / "examples" / "space" / "app.py"))


def test_the_space_answers_with_the_shipped_checkpoint(space, videos):
    with served_app(space["classify"], examples=space["examples"]) as address:
        client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
        answers = client.predict(uploaded(videos / "a_red_star_sliding_left.mp4"), LABELS, api_name="/predict")
        client.close()
    assert answers[0]["label"] == "a red star sliding left"
    assert Path(space["examples"][0].video).name == STORY


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (pip install selenium)")
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and its driver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "no-first-run"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1280,1000"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


class Page:
    """The app in a browser."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get(address)
        self.find("#froster-score")

    def find(self, selector: str, *, text: str = ""):
        """The element, as soon as it is shown and has this text in it."""
        from selenium.webdriver.support.ui import WebDriverWait

        def shown(browser):
            elements = browser.find_elements("css selector", selector)
            return next((item for item in elements if item.is_displayed() and text in item.text), None)

        return WebDriverWait(self.browser, 60).until(shown)

    def ask(self, path: Path, labels: str) -> None:
        """Upload a video and write labels."""
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser.find_element("css selector", "#froster-video input[type=file]").send_keys(str(path))
        WebDriverWait(self.browser, 60).until(
            lambda browser: browser.find_elements("css selector", "#froster-video video")
        )
        area = self.find("#froster-labels textarea")
        area.clear()
        area.send_keys(labels)

    def open(self, tab: str) -> None:
        """Show a tab."""
        self.find("button[role=tab]", text=tab).click()

    def requested(self) -> set[str]:
        """Hosts of all that the page has asked for since the last call."""
        messages = [json.loads(line["message"])["message"] for line in self.browser.get_log("performance")]
        urls = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        urls += [message["params"]["url"] for message in messages if message["method"] == "Network.webSocketCreated"]
        return {parts.hostname for parts in map(urlsplit, urls) if parts.scheme in ("http", "https", "ws", "wss")}


def test_a_colleague_uploads_asks_and_is_taken_to_a_segment(browser, address, videos):
    page = Page(browser, address)
    page.ask(videos / "long.mp4", LABELS)
    page.find("#froster-score").click()
    assert page.find("#froster-answers .froster-row", text="a yellow heart bouncing")
    page.open("When?")
    page.find("#froster-find").click()
    page.find("#froster-segments .froster-row")
    page.find("#froster-plot img")
    last = browser.find_elements("css selector", "#froster-segments .froster-row")[-1]
    last.click()
    seconds = browser.execute_script("return document.querySelector('#froster-video video').currentTime")
    assert seconds == pytest.approx(float(last.get_attribute("data-seconds")))
    assert seconds > 0
    page.open("Where?")
    page.find("#froster-explain").click()
    page.find("#froster-strip img")
    assert page.requested() == {"127.0.0.1"}


def test_an_example_is_at_hand(browser, address):
    page = Page(browser, address)
    page.find(".gallery-item", text="one after the other").click()
    player = page.find("#froster-video video")
    page.find("#froster-score").click()
    page.find("#froster-answers .froster-row")
    assert Path(urlsplit(player.get_attribute("src")).path).name == STORY
    assert browser.find_element("css selector", "#froster-labels textarea").get_attribute("value") == LABELS
    answers = [item.text for item in browser.find_elements("css selector", "#froster-answers .froster-name")]
    assert sorted(answers) == sorted(DEMO_LABELS)


def test_hostile_labels_and_names_are_text_and_errors_stay(browser, address, tmp_path, videos):
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, address)
    title = browser.title
    page.ask(videos / STORY, f"{HOSTILE}\na star")
    page.find("#froster-score").click()
    assert page.find("#froster-answers .froster-name", text=HOSTILE)
    page.open("When?")
    page.find("#froster-find").click()
    page.find("#froster-segments .froster-name")
    damaged = tmp_path / "<img src=x onerror=document.title='taken'>.mp4"
    damaged.write_bytes(b"not a video")
    page = Page(browser, address)
    page.ask(damaged, "<b id=bold>a</b>\na star")
    page.find("#froster-score").click()
    page.find("#froster-answers .froster-error", text="Cannot decode")
    page.find("#froster-labels textarea").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    page.find("#froster-score").click()
    page.find("#froster-answers .froster-error", text="Write at least one label")
    assert browser.title == title
    assert not browser.find_elements("css selector", "#bold, img[src=x]")


@pytest.fixture
def searching_address(index, videos):
    story = AppExample(videos / STORY, DEMO_LABELS, STORY_WINDOWS)
    with served_app(load_pipeline("small"), index=index, examples=[story]) as address:
        yield address


def test_a_phone_shows_all_tabs_and_does_not_move_sideways(browser, searching_address, videos):
    sizes = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    try:
        page = Page(browser, searching_address)
        tabs = [tab.text for tab in browser.find_elements("css selector", "button[role=tab]")]
        assert tabs == ["Which?", "When?", "Where?", "Search"]
        page.ask(videos / STORY, LABELS)
        page.open("When?")
        page.find("#froster-find").click()
        page.find("#froster-segments .froster-row")
        page.find("#froster-plot img")
        widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
        assert browser.execute_script(widths) == [390, 390]
        assert (
            browser.execute_script("return document.querySelector('#froster-plot img').getBoundingClientRect().x") >= 0
        )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_videos_that_people_have_are_answered(client):
    if REAL_VIDEOS["bikes"].stat().st_size > MAX_MEGABYTES * 2**20:
        pytest.skip("the real video is larger than what this app takes")
    assert client.predict(uploaded(REAL_VIDEOS["bikes"]), "a\nb", api_name="/predict")
