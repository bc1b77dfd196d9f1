"""What `froster app` takes of a request, and what it says of one that fails: to whoever asks, and on its terminal.

    request -> `GuardedServer` -> Gradio's routes -> `guarded_blocks`: types of the inputs -> Gradio's components
            -> the functions of `app.py`

Gradio has routes that this page does not need: one runs FFmpeg on what it is sent, others fetch addresses, or print
what they are asked. `ROUTES` are those that are served.

Gradio and its server print the traceback of whatever they do not expect, with the values of the request in it as they
came. So no error leaves the page but `gradio.Error`, of which nothing is printed, and none leaves the server: of a
failure of the program there is one line, through `one_line`.
"""

import asyncio
import contextlib
import errno
import functools
import html
import ipaddress
import itertools
import json
import logging
import math
import os
import re
import sys
import tempfile
import traceback
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..printing import one_line, printable
from ..whole_files import NO_ROOM, make_folder

# By the name of a component: what JSON has for it, and in words. A field that is left empty is null.
INPUTS: dict[str, tuple[tuple[type, ...], str]] = {
    "textbox": ((str,), "text"),
    "dropdown": ((str,), "text"),
    "radio": ((str,), "text"),
    "number": ((int, float), "a number"),
    "checkbox": ((bool,), "true or false"),
    "video": ((dict,), "an uploaded file"),
}

NO_UPLOAD = "A value cannot be taken, or a file is not an upload of this page: upload the video first."

# Every resource is the app's own; whatever else a page might name, the browser does not ask for it.
CONTENT_SECURITY_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'self'; form-action 'self'; object-src 'none'"
)


# Of a URL that names a file to show; Gradio would fetch it.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+:"
_READING = (
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/(?:assets|static|svelte)/.*|"
    r"/gradio_api/(?:info/?|openapi\.json|app_id/?|theme\.css|startup-events|queue/data|queue/status|"
    rf"heartbeat/[^/]+|call/[^/]+/[^/]+|file=(?!\s*{_SCHEME}).*)"
)
# By method, the paths that the page, `gradio_client` and `curl` need; what does not wait, such as an example that is
# chosen, is `run`. Not the progress of an upload: Gradio gets a form when it is whole, and would keep its name. Nor
# what cancels a question: it would go on in its thread, beside the next one.
ROUTES = {
    "GET": re.compile(_READING, re.DOTALL),
    "HEAD": re.compile(_READING, re.DOTALL),
    "POST": re.compile(r"/gradio_api/(?:upload/?|queue/join/?|reset/?|(?:call|run)/[^/]+/?)"),
}
UPLOAD = "/gradio_api/upload"
# Two lists of labels, each character in an escape of JSON.
MOST_QUESTION_BYTES = 2 * 2**20
# Of a question, so much is held in memory while it arrives, for every connection at once: most have a few labels. A
# longer one waits on the disk for its turn.
SHORT_QUESTION_BYTES = 2**14
# Of a question's JSON: values of any kind, and characters of each name of a session or an event. Gradio keeps both for
# thousands of sessions, whether somebody waits for the answers or not.
MOST_QUESTION_VALUES = 1000
LONGEST_NAME = 64
NAMES = ("session_hash", "event_id", "trigger_id", "oauth_token")
# Of a session that nobody reads. As many questions as may wait have some hundred, most of which say how long it takes.
MOST_MESSAGES = 512
# Gradio takes every other `Range` apart as if it were one.
_SINGLE_RANGE = re.compile(rb"bytes=[0-9]{0,18}-[0-9]{0,18}")
# Characters of a path, which ends with the name of a file at most, and of what is behind "?": both are kept of a
# question that waits.
LONGEST_PATH = 2048
# What uploads, pictures that were made of them, and long questions take of the disk until they are deleted, in uploads
# of the largest size; a file counts as this many bytes at least.
MOST_UPLOADS = 16
LEAST_FILE_BYTES = 2**16
# So much of a form has to come within this time, again and again: who holds a connection open holds no room for long.
LEAST_PROGRESS_BYTES = 2**19
PROGRESS_SECONDS = 60.0
# What a form has around a file, and in each field that is not one, of which Gradio takes a thousand.
_FORM_BYTES, _LONGEST_FIELD = 2**16, 2**10
_CHUNK_BYTES = 2**18


def guarded_blocks(gr: Any) -> Any:
    """Gradio's page, which fetches no address, takes only what its fields hold, and raises nothing but `gr.Error`."""

    class GuardedBlocks(gr.Blocks):
        async def process_api(self, *arguments: Any, **options: Any) -> Any:
            # Nothing of this page is a session's. Gradio would keep each input, as the value of its field, for
            # thousands of them, which whoever asks may name as they like.
            options["state"] = None
            try:
                return await super().process_api(*arguments, **options)
            except gr.Error as error:
                error.print_exception = False
                raise
            except Exception as error:
                print_failure(error)
                raise gr.Error("The server failed; its terminal says why.", print_exception=False) from error

        async def preprocess_data(self, block_fn: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
            try:
                check_inputs([(block.get_block_name(), block.label) for block in block_fn.inputs], inputs)
            except ValueError as error:
                raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from error
            try:
                return await super().preprocess_data(block_fn, inputs, *arguments, **options)
            except gr.Error as error:
                message = html.escape(one_line(error.message), quote=False)
                raise gr.Error(message, print_exception=False) from error
            except ValueError as error:
                # Gradio's own words name folders of this machine.
                raise gr.Error(NO_UPLOAD, print_exception=False) from error

    return GuardedBlocks


class LatestMessages(asyncio.Queue[Any]):
    """The messages of a session, of which the oldest go where nobody reads them: it may ask on for ever."""

    def _put(self, item: Any) -> None:
        if self.qsize() >= MOST_MESSAGES:
            self.get_nowait()
        super()._put(item)


class SessionMessages(OrderedDict[str, "asyncio.Queue[Any]"]):
    """By session, the messages that wait to be fetched, in the place of Gradio's own table.

    That one forgets the session that was made first, though its question may still wait, and Gradio's queue ends for
    everybody where there is no place for a message.

    Args:
        queue: Gradio's.
        most: sessions that are kept; those whose questions wait or are answered are kept beyond it.
    """

    def __init__(self, queue: Any, most: int):
        super().__init__()
        self.queue, self.most = queue, most

    def __setitem__(self, session: str, messages: "asyncio.Queue[Any]") -> None:
        if session not in self:
            asking = {event.session_hash for event in self.queue.event_ids_to_events.values()}
            idle = (other for other in self if other not in asking)
            for other in list(itertools.islice(idle, max(0, len(self) + 1 - self.most))):
                del self[other]
            messages = LatestMessages()
        super().__setitem__(session, messages)

    def __missing__(self, session: str) -> "asyncio.Queue[Any]":
        # Whoever asked has gone; nobody fetches what is put here.
        return asyncio.Queue()


def check_inputs(fields: Sequence[tuple[str, str | None]], inputs: Any) -> None:
    """Refuse inputs of a request that its fields on the page cannot hold.

    Args:
        fields: by input, the kind of its component, a key of `INPUTS`, and its label.
        inputs: what came, from JSON.

    Raises:
        ValueError: names the field; or there are fewer inputs than fields; or a file lies elsewhere than uploads do,
            or is none.
    """
    if len(inputs) < len(fields):
        raise ValueError(f"{len(inputs)} values were given; give {len(fields)}.")
    for (kind, label), value in zip(fields, inputs):
        types, in_words = INPUTS.get(kind, ((object,), ""))
        # To Python, true and false are numbers.
        if value is not None and (not isinstance(value, types) or (isinstance(value, bool) and int in types)):
            raise ValueError(f"{label}: {printable(repr(value), limit=100)} was given; give {in_words}.")
    paths = list(_paths(inputs))
    if any("://" in path for path in paths):
        raise ValueError("Addresses are not fetched here: upload the video.")
    # Gradio asks where a file lies of a page that it has launched itself, and not of one within another app. It would
    # take a folder of uploads for one, and end when it cannot delete it as a file.
    uploads = Path(os.path.realpath(_upload_folder()))
    if not all(
        os.path.isfile(path) and not os.path.islink(path) and uploads in Path(os.path.realpath(path)).parents
        for path in paths
    ):
        raise ValueError(NO_UPLOAD)


def is_question(content: bytes) -> bool:
    """Whether the body of a request is one that the page sends: few values, and short names of sessions and events."""
    try:
        question = json.loads(content or b"{}", parse_int=_finite, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return False
    if not isinstance(question, dict):
        return False
    # Half of a character, as JSON can say it: Gradio fails over it with every question from then on, or where it
    # repeats an input in an answer.
    try:
        json.dumps(question, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    # Gradio would give the question a session of its own, and keep the messages for it under this name.
    if question.get("session_hash") == "":
        return False
    if any(len(value) > LONGEST_NAME for name in NAMES if isinstance(value := question.get(name), str | list | dict)):
        return False
    pending: list[Any] = [question]
    count = 0
    while pending and count <= MOST_QUESTION_VALUES:
        value = pending.pop()
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += len(inner)
        pending += [part for part in inner if isinstance(part, dict | list)][:MOST_QUESTION_VALUES]
    return count <= MOST_QUESTION_VALUES


def _finite(text: str) -> float:
    """A number of JSON, which Gradio can repeat in an answer."""
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _paths(value: Any) -> Iterator[str]:
    """Where the files among the inputs of a call lie."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _paths(part)
    elif isinstance(value, dict):
        if isinstance(path := value.get("path"), str):
            yield path
        yield from _paths(list(value.values()))


def request_reason(error: Exception, *folders: str) -> str:
    """An error as one line, without the folders of the server.

    Args:
        error: of a question.
        folders: whose files are named by what follows them.
    """
    message = str(error)
    for folder in folders:
        message = message.replace(folder.rstrip(os.sep) + os.sep, "")
    return one_line(message)


def print_failure(error: BaseException) -> None:
    """One line on standard error, of a failure of the program: what and where, with nothing in it that acts there."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    line = one_line(f"{type(error).__name__}: {error}")
    print(f"froster: a request failed: {line}{printable(where)}", file=sys.stderr, flush=True)  # noqa: T201


@contextlib.contextmanager
def one_line_of_full_descriptors() -> Iterator[None]:
    """Inside of the block, asyncio says once that this process has no descriptors for further connections.

    It prints a traceback for each that waits, thousands in a second.
    """
    was_said = False

    def is_printed(record: logging.LogRecord) -> bool:
        nonlocal was_said
        if not record.getMessage().startswith("socket.accept() out of system resource"):
            return True
        record.msg, record.args, record.exc_info = "froster: no further connections can be taken", (), None
        was_said, is_first = True, not was_said
        return is_first

    with _filtered("asyncio", is_printed):
        yield


@contextlib.contextmanager
def nothing_of_bad_requests() -> Iterator[None]:
    """Inside of the block, uvicorn prints no warnings: of requests that it refuses, as it tells who sent them."""

    with _filtered("uvicorn.error", lambda record: record.levelno > logging.WARNING):
        yield


@contextlib.contextmanager
def _filtered(name: str, is_printed: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    """Inside of the block, a logger of another library prints what is to be printed alone."""
    logger = logging.getLogger(name)
    logger.addFilter(is_printed)
    try:
        yield
    finally:
        logger.removeFilter(is_printed)


def is_own_name(name: str | None, names: Sequence[str] = ()) -> bool:
    """Whether a host is this machine, whoever answers for other names: `localhost`, `127.0.0.1`, or one of `names`."""
    if name in ("localhost", *map(str.lower, names)):
        return True
    try:
        return ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False


def _host_of(address: bytes) -> str | None:
    """The host of `host:port`, or of an origin."""
    try:
        return urlsplit(address if b"://" in address else b"//" + address).hostname.decode()  # type: ignore[union-attr]
    except (ValueError, AttributeError):
        return None


def _has_address(scope: Any) -> bool:
    """Whether Gradio can make the page's address of what a request says of the host that a proxy was asked by.

    Its queue makes it where no error is caught.
    """
    from gradio.route_utils import get_request_origin
    from httpx import InvalidURL
    from starlette.requests import Request

    try:
        get_request_origin(Request(scope), "")
    except (InvalidURL, ValueError):
        return False
    return True


def refused_status(scope: Any, *, max_upload_bytes: int, names: Sequence[str] | None = None) -> int | None:
    """The HTTP status with which a request is refused before anything of its body is read; `None` for one that is not.

    Args:
        scope: of the request, by ASGI.
        max_upload_bytes: size of an uploaded file.
        names: of the host that is asked, and of the page that asks it, beside this machine's own; by default all are
            answered.
    """
    headers = dict(scope["headers"])
    if names is not None:
        # To a browser, a page under a foreign name that leads here is the app's own (DNS rebinding).
        if not is_own_name(_host_of(headers.get(b"host", b"")), names):
            return 421
        # And a page need not read what it is answered to fill the disk.
        if b"origin" in headers and not is_own_name(_host_of(headers[b"origin"]), names):
            return 403
    # As Starlette finds its routes, below the path at which the app is mounted.
    path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
    if len(path) + len(scope.get("query_string", b"")) > LONGEST_PATH:
        return 414
    allowed = ROUTES.get(scope["method"])
    if allowed is None or not allowed.fullmatch(path):
        return 404
    if scope["method"] == "POST":
        length = headers.get(b"content-length", b"")
        if b"transfer-encoding" in headers or not length.isdigit() or len(length) > 18:
            return 411
        if int(length) > (max_upload_bytes + _FORM_BYTES if path.startswith(UPLOAD) else MOST_QUESTION_BYTES):
            return 413
    return None


def _is_refusal(error: BaseException | None) -> bool:
    """Whether a route refused a request by `HTTPException`, in an answer that had begun."""
    while error is not None and not isinstance(getattr(error, "status_code", None), int):
        error = error.__cause__
    return error is not None and error.status_code < 500  # type: ignore[attr-defined]


def _upload_folder() -> str:
    """Where Gradio keeps files, as the environment says."""
    from gradio.utils import get_upload_folder

    return get_upload_folder()


def _taken_bytes(folder: str) -> int:
    """What the files in a folder take of the room for uploads."""
    sizes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # Files are deleted meanwhile.
            with contextlib.suppress(OSError):
                sizes += max(os.lstat(os.path.join(parent, name)).st_size, LEAST_FILE_BYTES)
    return sizes


class _DisconnectedError(Exception):
    """Nobody waits for an answer."""


class _TooSlowError(Exception):
    """A form does not go on."""


async def _chunks(receive: Any) -> AsyncIterator[bytes]:
    """The body of a request, as it comes; what is taken of it is not held while the next part is waited for.

    Raises:
        _DisconnectedError: it breaks off.
        _TooSlowError: less than `LEAST_PROGRESS_BYTES` of it have come in `PROGRESS_SECONDS`.
    """
    clock = asyncio.get_running_loop().time
    until, progress, more = clock() + PROGRESS_SECONDS, 0, True
    while more:
        try:
            message = await asyncio.wait_for(receive(), until - clock())
        except asyncio.TimeoutError as error:
            raise _TooSlowError from error
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        chunk, more = message.pop("body", b""), message.get("more_body", False)
        progress += len(chunk)
        if progress >= LEAST_PROGRESS_BYTES:
            until, progress = clock() + PROGRESS_SECONDS, 0
        yield chunk
        del chunk


class _NoQuestionError(Exception):
    """A request says something else than the page does."""


REFUSED = {
    400: b"Not a question of this page.",
    403: b"Another page asks for this one.",
    404: b"Not Found",
    408: b"The request does not go on.",
    411: b"Length Required",
    413: b"Content Too Large",
    414: b"URI Too Long",
    421: b"The app is not asked by its own name: open it as localhost, or start it with --name and this one.",
    500: b"The server failed.",
    507: b"The server has no room for this request. Try again later.",
}


class GuardedServer:
    """Serves the routes that the page needs, ends a request that fails, and tells browsers to ask no other machine.

    All uploads together, and what has arrived of long questions, have the room of `MOST_UPLOADS` of the largest ones.

    For an app of yours: `gradio.mount_gradio_app(yours, build_app(...), path="/froster",
    app_kwargs={"middleware": [starlette.middleware.Middleware(GuardedServer)]})`.

    Args:
        app: of ASGI.
        max_upload_bytes: size of an uploaded file.
        folder: folder of uploads, where it is not the one that Gradio's environment names.
        names: where it listens on this machine alone, names to which it answers beside `localhost`, such as a reverse
            proxy's; by default it answers to all.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        max_upload_bytes: int = 512 * 2**20,
        folder: str | None = None,
        names: Sequence[str] | None = None,
    ):
        self.app, self.max_upload_bytes, self.folder, self.names = app, max_upload_bytes, folder, names
        self._reading_form, self._reading_question = asyncio.Lock(), asyncio.Lock()
        # Of what arrives, of what is kept, and of all that has ever arrived.
        self._arriving_bytes = self._kept_bytes = self._ended_bytes = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:  # The page has no websockets; to one that nobody closes, the server answers that it failed.
                await send({"type": "websocket.close"})
            return
        has_begun = is_unfinished_stream = False

        async def send_with_policy(message: Any) -> None:
            nonlocal has_begun, is_unfinished_stream
            has_begun = True
            if message["type"] == "http.response.start":
                headers = message.get("headers", [])
                is_unfinished_stream = b"content-length" not in dict(headers)
                policy = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
                message = {**message, "headers": [*headers, policy]}
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                is_unfinished_stream = False
            await send(message)

        status = refused_status(scope, max_upload_bytes=self.max_upload_bytes, names=self.names)
        if status is None and not _has_address(scope):
            status = 400
        if status is None:
            # Whoever asks for other parts of a file gets all of it.
            kept = [
                (name, value) for name, value in scope["headers"] if name != b"range" or _SINGLE_RANGE.fullmatch(value)
            ]
            scope = {**scope, "headers": kept}
            serve = self.app
            if scope["method"] == "POST":
                serve = self._upload if UPLOAD in scope["path"] else self._question
            try:
                await serve(scope, receive, send_with_policy)
            except Exception as error:
                refusal = self._status_of(error)
                if refusal == 500 and not _is_refusal(error):
                    print_failure(error)
                status = None if has_begun else refusal
                if is_unfinished_stream:
                    # Gradio has said in it what is wrong; the server would print that it has no end.
                    await send_with_policy({"type": "http.response.body"})
        if status is not None:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send_with_policy({"type": "http.response.start", "status": status, "headers": headers})
            await send_with_policy({"type": "http.response.body", "body": REFUSED[status]})

    @staticmethod
    def _status_of(error: Exception) -> int:
        """The HTTP status of what ends a request."""
        # What waits on the disk takes a descriptor beside that of its connection.
        if isinstance(error, OSError) and error.errno in (*NO_ROOM, errno.EMFILE, errno.ENFILE):
            return 507
        return {_TooSlowError: 408, _NoQuestionError: 400}.get(type(error), 500)

    async def _question(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand a question on when it is there as a whole, and is one.

        Long ones wait on the disk, and are in memory one at a time: whoever holds many, that go on slowly or all come
        at once, takes no memory and no short question's turn.

        Raises:
            _NoQuestionError: it is none.
            OSError: it would take more of the disk than all uploads and questions together may.
            _TooSlowError: it has made too little progress.
        """
        size = on_disk = 0
        answer: list[Any] = []

        async def keep(message: Any) -> None:
            answer.append(message)

        with tempfile.SpooledTemporaryFile(SHORT_QUESTION_BYTES, dir=self._made_folder()) as body:
            try:
                async for chunk in _chunks(receive):
                    size += len(chunk)
                    if size > SHORT_QUESTION_BYTES:
                        more, on_disk = size - on_disk, size
                        await self._take_room(more)
                    body.write(chunk)
                    del chunk
                body.seek(0)
                if not on_disk:
                    await self._ask(body.read(), scope, receive, send)
                    return
                async with self._reading_question:
                    await self._ask(body.read(), scope, receive, keep)
            except _DisconnectedError:
                return
            finally:
                self._arriving_bytes -= on_disk
        # Whoever reads it slowly keeps no other from being asked.
        for message in answer:
            await send(message)

    async def _ask(self, content: bytes, scope: Any, receive: Any, send: Any) -> None:
        """Hand on a question that is there as a whole."""
        if not is_question(content):
            raise _NoQuestionError
        message: Any = {"type": "http.request", "body": content, "more_body": False}

        async def receive_again() -> Any:
            nonlocal message
            if message is None:
                return await receive()
            first, message = message, None
            return first

        from gradio.route_utils import FnIndexInferError

        try:
            await self.app(scope, receive_again, send)
        except (FnIndexInferError, KeyError) as error:
            # Of a function that the page does not have, by its name or its number.
            raise _NoQuestionError from error

    async def _upload(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand a form on when it is there as a whole: of one that breaks off, Gradio would keep what it has.

        What has arrived of it takes room, and not what it says that it will have.

        Raises:
            _NoQuestionError: it is not a form with files.
            OSError: it would take more of the disk than all uploads together may.
            _TooSlowError: it has made too little progress.
        """
        await self._measure()
        self._refuse_beyond_room(max(int(dict(scope["headers"])[b"content-length"]), LEAST_FILE_BYTES))
        size = 0
        with tempfile.TemporaryFile(dir=self._made_folder()) as body:
            try:
                async for chunk in _chunks(receive):
                    size += len(chunk)
                    await self._take_room(len(chunk))
                    body.write(chunk)
                    del chunk
                await self._hand_on(body, size, scope, receive, send)
            except _DisconnectedError:
                return
            finally:
                self._arriving_bytes -= size
                # What became of it is not known until it is measured.
                self._ended_bytes += max(size, LEAST_FILE_BYTES)
                self._kept_bytes += max(size, LEAST_FILE_BYTES)

    def _made_folder(self) -> Any:
        """Where what arrives waits; systems clean away temporary folders that nothing has touched for days."""
        return self.folder and make_folder(self.folder, mode=0o700)

    async def _take_room(self, size: int) -> None:
        """Count what arrives and goes to the disk, until whoever received it counts it off.

        Raises:
            OSError: it would take more of the disk than all together may.
        """
        self._arriving_bytes += size
        if self._is_beyond_room():
            await self._measure()
            self._refuse_beyond_room()

    async def _measure(self) -> None:
        """Look at what uploads take of the disk, and what was made of them."""
        ended_before = self._ended_bytes
        kept = await asyncio.to_thread(_taken_bytes, self.folder or _upload_folder())
        self._kept_bytes = kept + self._ended_bytes - ended_before

    def _is_beyond_room(self, more: int = 0) -> bool:
        return self._kept_bytes + self._arriving_bytes + more > MOST_UPLOADS * (self.max_upload_bytes + _FORM_BYTES)

    def _refuse_beyond_room(self, more: int = 0) -> None:
        if self._is_beyond_room(more):
            raise OSError(errno.ENOSPC, "Uploads take all of the room that they have")

    async def _hand_on(self, body: Any, size: int, scope: Any, receive: Any, send: Any) -> None:
        body.seek(0)

        async def receive_again() -> Any:
            if body.closed or (body.tell() == size and size):
                return await receive()
            chunk = body.read(_CHUNK_BYTES)
            return {"type": "http.request", "body": chunk, "more_body": body.tell() < size}

        # One at a time: meanwhile, it is on the disk twice. Of what is behind "?", Gradio keeps the upload's name for
        # ever, to tell of its progress.
        async with self._reading_form:
            with _unfinished_files_removed():
                try:
                    await self.app({**scope, "query_string": b""}, receive_again, send)
                except (AttributeError, LookupError, TypeError, ValueError) as error:
                    # So Gradio fails at a form that is none of the page's, with a part that is not a file.
                    raise _NoQuestionError from error


# The temporary files that Gradio makes of a form, by name.
_MADE: ContextVar[list[str]] = ContextVar("made")


@contextlib.contextmanager
def _unfinished_files_removed() -> Iterator[None]:
    """Delete what Gradio has made of a form and given no name: of one without an end, it would stay for ever.

    Others of these files in the folder may be of other apps, of a form that is still read.
    """
    _guard_forms()
    made: list[str] = []
    token = _MADE.set(made)
    try:
        yield
    finally:
        _MADE.reset(token)
        for name in made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


@functools.cache
def _guard_forms() -> None:
    """Have Gradio's reader of forms tell `_MADE` of its files, and keep little of what is not a file in memory."""
    from gradio import route_utils

    make, take = route_utils.NamedTemporaryFile, route_utils.GradioMultiPartParser.on_part_data

    def make_noted(*arguments: Any, **options: Any) -> Any:
        file = make(*arguments, **options)
        _MADE.get([]).append(file.name)
        return file

    def take_little(parser: Any, data: bytes, start: int, end: int) -> None:
        take(parser, data, start, end)
        # Others' forms, of an app that this one is mounted in, are their own.
        is_own, part = _MADE.get(None) is not None, parser._current_part
        if is_own and part.file is None and len(part.data) > _LONGEST_FIELD:
            raise ValueError(f"A field that is not a file has more than {_LONGEST_FIELD} bytes.")

    route_utils.NamedTemporaryFile = make_noted
    route_utils.GradioMultiPartParser.on_part_data = take_little
