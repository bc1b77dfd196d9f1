"""What `froster app` takes of a request, and what it says of one that fails: to whoever asks, and on its terminal.

    request -> `GuardedServer` -> Gradio's routes -> `guarded_blocks`: types of the inputs -> Gradio's components
            -> the functions of `app.py`

Gradio and its server print the traceback of whatever they do not expect, with the values of the request in it as they
came. So no error leaves the page but `gradio.Error`, of which nothing is printed, and none leaves the server: of a
failure of the program there is one line, through `one_line`.
"""

import html
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from ..printing import one_line, printable

# By the name of a component: what JSON has for it, and in words. A field that is left empty is null.
INPUTS: dict[str, tuple[tuple[type, ...], str]] = {
    "textbox": ((str,), "text"),
    "dropdown": ((str,), "text"),
    "radio": ((str,), "text"),
    "number": ((int, float), "a number"),
    "checkbox": ((bool,), "true or false"),
    "video": ((dict,), "an uploaded file"),
}

# Every resource is the app's own; whatever else a page might name, the browser does not ask for it.
CONTENT_SECURITY_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'self'; form-action 'self'; object-src 'none'"
)


def guarded_blocks(gr: Any) -> Any:
    """Gradio's page, which fetches no address, takes only what its fields hold, and raises nothing but `gr.Error`."""

    class GuardedBlocks(gr.Blocks):
        async def process_api(self, *arguments: Any, **options: Any) -> Any:
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
                message = "A value cannot be taken, or a file is not an upload of this page: upload the video first."
                raise gr.Error(message, print_exception=False) from error

    return GuardedBlocks


def check_inputs(fields: Sequence[tuple[str, str | None]], inputs: Any) -> None:
    """Refuse inputs of a request that its fields on the page cannot hold.

    Args:
        fields: by input, the kind of its component, a key of `INPUTS`, and its label.
        inputs: what came, from JSON.

    Raises:
        ValueError: names the field; or there are fewer inputs than fields; or a file lies at another address.
    """
    if len(inputs) < len(fields):
        raise ValueError(f"{len(inputs)} values were given; give {len(fields)}.")
    for (kind, label), value in zip(fields, inputs):
        types, in_words = INPUTS.get(kind, ((object,), ""))
        # To Python, true and false are numbers.
        if value is not None and (not isinstance(value, types) or (isinstance(value, bool) and int in types)):
            raise ValueError(f"{label}: {printable(repr(value), limit=100)} was given; give {in_words}.")
    if _names_address(inputs):
        raise ValueError("Addresses are not fetched here: upload the video.")


def _names_address(value: Any) -> bool:
    """Whether a file among the inputs of a call lies elsewhere."""
    if isinstance(value, list | tuple):
        return any(map(_names_address, value))
    if not isinstance(value, dict):
        return False
    path = value.get("path")
    return (isinstance(path, str) and "://" in path) or any(map(_names_address, value.values()))


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


class GuardedServer:
    """Tells browsers, with every answer, that the page needs nothing of other machines, and ends a request that fails.

    Args:
        app: of ASGI.
    """

    def __init__(self, app: Callable[..., Any]):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_begun = False

        async def send_with_policy(message: Any) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_policy)
        except Exception as error:
            print_failure(error)
            if not has_begun:
                headers = [(b"content-type", b"text/plain; charset=utf-8")]
                await send_with_policy({"type": "http.response.start", "status": 500, "headers": headers})
                await send_with_policy({"type": "http.response.body", "body": b"The server failed."})
