"""The messages between the decoding process and its caller: JSON headers and plain bytes, nothing that is executed.

    caller                                    decoding process
    {"module", "max_worker_bytes", ...}    ->
                                           <- {"missing": null or why, "state": "idle"}
    {"task", "limits", source ...} [bytes] ->
                                           <- {"info", "state": "asking"}
    {"indices"} or {"times"}               ->
                                           <- {"shape", "state"} and the frames' bytes, or of a stream that shows the
                                              same frame again {"again", "state"}

A reply that ends the conversation has the state "idle", one after which more comes "working", a question "asking". A
header says in `payload_bytes` how many bytes follow it, if any do: until they are read, the conversation is not over.
In place of any reply may come {"error": reason}, the video's fault, after which the process ends where it {"is_last"},
or {"unavailable": [errno, text]}, the machine's.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO, Literal

State = Literal["idle", "working", "asking"]

# Two million indices or times fit; a length beyond it is not that of a message.
MAX_MESSAGE_BYTES = 2**27
# What a decoding process has to say, pixels aside, in which a file may have come to speak.
MAX_REPLY_BYTES = 2**20
_HEADER = struct.Struct(">I")


def read_message(stream: BinaryIO, *, max_bytes: int = MAX_MESSAGE_BYTES) -> dict[str, Any] | None:
    """The next message, or None at the end of the stream.

    Args:
        stream: of messages, and of the bytes that follow some of them.
        max_bytes: length of a message.

    Raises:
        ValueError: what comes is not a message.
    """
    head = stream.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    (length,) = _HEADER.unpack(head)
    if length > max_bytes:
        raise ValueError(f"a message of {length} bytes; at most {max_bytes} are allowed")
    body = stream.read(length)
    if len(body) < length:
        return None
    try:
        message = json.loads(body)
    except RecursionError as error:
        raise ValueError("a message that is nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError(f"a message that is a {type(message).__name__}, not an object")
    return message


def write_message(stream: BinaryIO, message: dict[str, Any], *payload: Any) -> None:
    """Write a message and the bytes that follow it."""
    if payload:
        message = {**message, "payload_bytes": sum(memoryview(part).nbytes for part in payload)}
    body = json.dumps(message).encode()
    stream.write(_HEADER.pack(len(body)) + body)
    for part in payload:
        stream.write(part)
    stream.flush()
