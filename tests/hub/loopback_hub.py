"""A stand-in for the Hub on this machine: what the client asks for when it uploads a folder and loads a model."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

REVISION = "0123456789abcdef0123456789abcdef01234567"


class LoopbackHub:
    """One repository of a model: `files` that were committed, `requests` that were made; and `datasets`, the files of
    data sets by their repositories."""

    def __init__(self, repo_id: str):
        self.repo_id = repo_id
        self.files: dict[str, bytes] = {}
        self.datasets: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str]] = []
        self.created: dict = {}
        self.validated: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                hub.answer(self, b"")

            do_HEAD = do_GET

            def do_POST(self):
                hub.answer(self, self.read_body())

            def read_body(self) -> bytes:
                if "Content-Length" in self.headers:
                    return self.rfile.read(int(self.headers["Content-Length"]))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        path = request.path.partition("?")[0]
        self.requests.append((request.command, path))
        model = f"/api/models/{self.repo_id}"
        if path == "/api/repos/create":
            self.created = json.loads(body)
            return self.send(request, {"url": f"{self.endpoint}/{self.repo_id}", "name": self.repo_id})
        if path == "/api/validate-yaml":
            self.validated.append(json.loads(body)["content"])
            return self.send(request, {"errors": [], "warnings": []})
        if path == f"{model}/preupload/main":
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.send(request, {"files": files})
        if path == f"{model}/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del self.files[line["value"]["path"]]
            url = f"{self.endpoint}/{self.repo_id}/commit/{REVISION}"
            return self.send(request, {"commitOid": REVISION, "commitUrl": url})
        repositories = [(model, self.repo_id, f"/{self.repo_id}", self.files)]
        repositories += [(f"/api/datasets/{n}", n, f"/datasets/{n}", files) for n, files in self.datasets.items()]
        for api, repo_id, address, files in repositories:
            if path in (api, f"{api}/revision/main", f"{api}/revision/{REVISION}"):
                siblings = [{"rfilename": name} for name in files]
                return self.send(request, {"id": repo_id, "sha": REVISION, "siblings": siblings, "tags": []})
            for revision in ("main", REVISION):
                if path == f"{api}/paths-info/{revision}":
                    asked = parse_qs(body.decode())["paths"] if body[:1] != b"{" else json.loads(body)["paths"]
                    return self.send(request, tree({name: files[name] for name in files if name in asked}))
                if path.startswith(f"{api}/tree/{revision}"):
                    below = path.removeprefix(f"{api}/tree/{revision}").strip("/")
                    found = {name: files[name] for name in files if name.startswith(below)}
                    return self.send(request, tree(found) if found or not below else None)
                prefix = f"{address}/resolve/{revision}/"
                if path.startswith(prefix) and (name := path.removeprefix(prefix)) in files:
                    return self.send(request, files[name])
        return self.send(request, None)

    def send(self, request: BaseHTTPRequestHandler, content) -> None:
        data = content if isinstance(content, bytes) else json.dumps({} if content is None else content).encode()
        status = 404 if content is None else 200
        if isinstance(content, bytes) and (
            asked := re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"] or "")
        ):
            status, first, last = 206, int(asked[1]), min(int(asked[2]), len(data) - 1)
            data = data[first : last + 1]
        request.send_response(status)
        if status == 206:
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        if content is None:
            request.send_header("X-Error-Code", "EntryNotFound")
        if isinstance(content, bytes):
            request.send_header("ETag", f'"{_etag(content)}"')
        request.send_header("X-Repo-Commit", REVISION)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)


def tree(files: dict[str, bytes]) -> list[dict]:
    """What the Hub tells of files."""
    return [{"type": "file", "path": n, "size": len(files[n]), "oid": _etag(files[n])} for n in files]


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
