"""The server of `browse`: read-only, on this machine alone, and no page reaches another run."""

import http.server
import os
import stat
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")
"""Names under which it answers; a page elsewhere may point a name of its own to this machine."""
SANDBOX = "sandbox allow-scripts allow-downloads allow-popups"
"""Each page of a run gets an origin of its own, so its scripts can read nothing else here."""
OURS = (["index.html"], ["matrix.html"])
"""Written anew by `browse` itself, and no script of a run is in them."""
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Answers GET and HEAD for plain files below a folder; links are not followed."""

    timeout = 30

    def send_head(self) -> BinaryIO | None:
        """The headers of a file, and the open file; None after a refusal."""
        if (self.headers.get("Host") or "").rsplit(":", 1)[0] not in HOSTS:
            return self._refuse(HTTPStatus.FORBIDDEN)
        parts = self._parts()
        if parts is None:
            return self._refuse(HTTPStatus.BAD_REQUEST)
        file = _opened(Path(self.directory), parts)
        if file is None:
            return self._refuse(HTTPStatus.NOT_FOUND)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", self.guess_type(parts[-1]))
        self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
        if parts not in OURS:
            self.send_header("Content-Security-Policy", SANDBOX)
        self.end_headers()
        return file

    def end_headers(self) -> None:
        """Add what every answer says."""
        for name, value in ALWAYS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal is for the address."""

    def _parts(self) -> list[str] | None:
        """The names that a path consists of; None for one that no page links to."""
        path = unquote(self.path.partition("?")[0], errors="surrogateescape")
        names = path.removeprefix("/").split("/")
        names = [*names[:-1], names[-1] or "index.html"]
        odd = (set(name) & {*map(chr, range(32)), "\\"} for name in names)
        wrong = any(name in ("", ".", "..") for name in names) or any(odd)
        return None if wrong or not path.startswith("/") else names

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_error(status)


def _opened(folder: Path, parts: list[str]) -> BinaryIO | None:
    """A plain file below a folder, reached without following a link."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            inside = os.open(part, flags, dir_fd=here)
            os.close(here)
            here = inside
        if stat.S_ISREG(os.fstat(here).st_mode):
            return os.fdopen(os.dup(here), "rb")
    except OSError:
        pass
    finally:
        os.close(here)
    return None


def server(folder: Path) -> http.server.ThreadingHTTPServer:
    """A server of a folder, at a port that is free."""
    handler = partial(_Handler, directory=str(folder))
    return http.server.ThreadingHTTPServer((ADDRESS, 0), handler)


def serve(folder: Path) -> None:
    """Serve a folder until Ctrl-C, and print where."""
    with server(folder) as serving:
        print(f"http://{ADDRESS}:{serving.server_port}/ until Ctrl-C", flush=True)
        serving.serve_forever()
