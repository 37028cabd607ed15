"""The server of `browse` gives plain files to pages of this machine, and pages reach no other."""

import http.client
import os
import threading
from pathlib import Path

import pytest

from experiments._serve import SANDBOX, server
from viz import write_gallery


@pytest.fixture
def ask(home):
    """Asks the server of the runs: method, path, Host; gives status, headers and body."""
    write_gallery(Path("runs"))
    with server(Path("runs")) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
        own = f"127.0.0.1:{serving.server_port}"

        def answer(path, host=own, method="GET"):
            link = http.client.HTTPConnection("127.0.0.1", serving.server_port, timeout=10)
            link.putrequest(method, path, skip_host=True)
            if host is not None:
                link.putheader("Host", host)
            link.endheaders()
            said = link.getresponse()
            return said.status, said.headers, said.read()

        yield answer
        serving.shutdown()


def test_it_serves_the_gallery_and_the_page_of_a_run(ask, folder):
    status, headers, body = ask("/")
    assert status == 200
    assert b"What do the whole numbers add up to?" in body
    assert "Content-Security-Policy" not in headers
    status, headers, body = ask(f"/counting/{folder.name}/")
    assert (status, headers["Content-Security-Policy"]) == (200, SANDBOX)
    assert "allow-same-origin" not in SANDBOX
    assert ask(f"/counting/{folder.name}/tables/total.csv")[2] == b"total\n10\n"
    assert ask("/", method="HEAD")[2] == b""
    assert ask("/", host="localhost:8000")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", None, "0.0.0.0",
                                  "localhost.evil.example:80", "[::1]"])  # fmt: skip
def test_other_hosts_are_refused(host, ask):
    assert ask("/", host=host)[0] in (400, 403)


@pytest.mark.parametrize("path", [
    "/%00", "/a%00b", "/%0a", "/..", "/../../etc/passwd", "/%2e%2e/x",
    "/counting/../..", "/a%5cb", "/%2fetc", "x"])  # fmt: skip
def test_odd_paths_are_answered_400(path, ask):
    assert ask(path)[0] == 400


def test_links_pipes_and_folders_are_not_served(ask, folder):
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    for name in ("link", "up/passwd", "pipe", "tables", "tables/", "none", "index.html/x"):
        assert ask(f"/counting/{folder.name}/{name}")[0] == 404, name
    assert ask("/x" * 5000)[0] in (404, 414)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_read_only(method, ask):
    assert ask("/", method=method)[0] == 501
