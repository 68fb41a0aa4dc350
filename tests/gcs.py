"""A stand-in for Google Cloud Storage on this machine: what gcsfs and TensorStore use of its JSON API, in memory."""

import json
import re
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

# The bucket, its objects, one of them, or one and the name that it is moved to.
ADDRESS = re.compile(r"(?:/upload|/download)?/storage/v1/b/(\w+)(?:/(o)(?:/([^/]+)(?:/moveTo/o/([^/]+))?)?)?")


class Server(ThreadingHTTPServer):
    """Serves the bucket `bucket`. Objects appear whole, each write is a new generation, and there are no folders."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = Lock()
        self.objects: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.requests: list[str] = []
        self.allowed = True
        self.before_put: Callable[[str], None] = lambda name: None

    def handle_error(self, *where: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients hang up on answers that they no longer need
            super().handle_error(*where)

    def put(self, name: str, content: bytes) -> dict[str, Any]:
        self.before_put(name)
        self.objects[name], self.generations[name] = content, len(self.requests)
        return self.describe(name)

    def describe(self, name: str) -> dict[str, Any]:
        size, generation = str(len(self.objects[name])), str(self.generations[name])
        return {"kind": "storage#object", "name": name, "bucket": "bucket", "size": size, "generation": generation}

    def listing(
        self, prefix: str = "", delimiter: str = "", startOffset: str = "", endOffset: str = "", **_: Any
    ) -> Any:
        """Objects between two names, on one page; of those with the delimiter after the prefix the beginnings alone."""
        items, prefixes = [], set()
        for name in sorted(self.objects):
            if name.startswith(prefix) and startOffset <= name and not (endOffset and name >= endOffset):
                head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                if found:
                    prefixes.add(prefix + head + found)
                else:
                    items.append(self.describe(name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}

    def respond(self, command: str, path: str, body: bytes) -> tuple[int, bytes | dict[str, Any], dict[str, Any]]:
        """Status, content and headers."""
        self.requests.append(f"{command} {path}")
        address = urlsplit(path)
        found, query = ADDRESS.fullmatch(address.path), dict(parse_qsl(address.query))
        if found is None:
            return 501, {}, {}
        if not self.allowed:
            return 401, {"error": {"code": 401, "message": "Anonymous caller has no access"}}, {}
        bucket, objects, *names = found.groups()
        if bucket != "bucket":
            return 404, {}, {}
        if not objects:
            return 200, {"kind": "storage#bucket", "name": bucket}, {}
        name, target = (unquote(name) if name else None for name in names)
        name = name or query.get("name")
        if name is None:
            return 200, self.listing(**query), {}
        generation = self.generations.get(name, 0)
        if int(query.get("ifGenerationMatch", generation)) != generation:
            return 412, {}, {}
        if query.get("ifGenerationNotMatch") == str(generation):
            return 304, b"", {}
        if query.get("uploadType") == "resumable":  # in one piece: what follows is as any other upload
            return 200, {}, {"Location": self.url + path.replace("uploadType=resumable", "uploadType=media")}
        if query.get("uploadType") == "media":
            return 200, self.put(name, body), {}
        if name not in self.objects:
            return 404, {}, {}
        if command == "DELETE" or target:
            content = self.objects.pop(name)
            del self.generations[name]
            return (200, self.put(target, content), {}) if target else (204, b"", {})
        content = self.objects[name] if query.get("alt") == "media" else self.describe(name)
        return 200, content, {"x-goog-generation": generation}


class Request(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1
    server: Server

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            status, content, headers = self.server.respond(self.command, self.path, body)
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part and status == 200:
            first, last = int(part[1]), min(int(part[2] or len(content) - 1), len(content) - 1)
            status, headers["Content-Range"] = 206, f"bytes {first}-{last}/{len(content)}"
            content = content[first : last + 1]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = respond

    def log_message(self, *_: Any) -> None:
        """Nothing: pytest shows stderr."""
