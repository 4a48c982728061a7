"""The loader for readers: a tiny IDX file from a server on this machine that drops the connection once."""

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch

from lablib.teaching import data

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
LABELS = np.array([7, 0, 9], np.uint8)


def idx(array) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def tiny(monkeypatch):
    """Let the test part be three images, and return the gzipped files by name."""
    raw = {"t10k-images-idx3-ubyte": idx(IMAGES), "t10k-labels-idx1-ubyte": idx(LABELS)}
    digests = tuple((name, hashlib.sha256(content).hexdigest()) for name, content in raw.items())
    monkeypatch.setitem(data.FILES, "test", digests)
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in raw.items()}


class Server(HTTPServer):
    """Serve files; hang up in the midst of the first answer, and say which ranges were asked for."""

    def __init__(self, files, drop=1, ranges=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.drop, self.ranges, self.asked = files, drop, ranges, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            return self.send_error(404)
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        begin = int(asked[6:-1]) if asked and self.server.ranges else 0
        if begin >= len(content):
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = len(content)
        if self.server.drop:
            self.server.drop -= 1
            end = begin + (len(content) - begin) // 2
        self.wfile.write(content[begin:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    running = []

    def start(*args, **options):
        running.append(Server(*args, **options))
        return running[-1]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def load(server, where):
    return data.mnist("test", download=True, where=where, source=server.address)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(data.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_dropped_connection_is_taken_up_again(tiny, serve, tmp_path, capsys, ranges):
    server = serve(tiny, ranges=ranges)
    images, labels = load(server, tmp_path)
    assert torch.equal(images, torch.from_numpy(IMAGES)) and labels.tolist() == [7, 0, 9]
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64
    half = len(tiny["t10k-images-idx3-ubyte.gz"]) // 2
    assert server.asked == [None, f"bytes={half}-", None]
    shown = capsys.readouterr().err
    assert f"the connection ended after {half} of" in shown and "MB" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(tiny)
    load(server, tmp_path)
    assert len(server.asked) == 3, "what is there is not fetched again"


def test_a_server_that_stays_away_is_named_and_what_came_is_kept(tiny, serve, tmp_path):
    server = serve(tiny, drop=100)
    with pytest.raises(ConnectionError, match=r"in 5 tries .* bytes are kept in .*\.part, and the next call goes on"):
        load(server, tmp_path)
    server.drop = 0
    assert len(load(server, tmp_path)[0]) == 3
    assert server.asked[5].startswith("bytes=")


def test_a_wrong_file_never_gets_the_name(tiny, serve, tmp_path):
    tiny["t10k-images-idx3-ubyte.gz"] = gzip.compress(idx(IMAGES + 1))
    with pytest.raises(ValueError, match=r"is not the file it should be, and was deleted: .* SHA-256"):
        load(serve(tiny, drop=0), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConnectionError, match="answers 404 Not Found: is the address right"):
        load(serve({}), tmp_path)


def test_without_leave_nothing_is_fetched(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not there: call mnist\('test', download=True\)"):
        data.mnist("test", where=tmp_path)
    with pytest.raises(ValueError, match="part is 'both': expected one of train, test"):
        data.mnist("both")


def test_the_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("LABLIB_DATA", str(tmp_path))
    assert data.folder() == tmp_path
    monkeypatch.delenv("LABLIB_DATA")
    assert data.folder().parts[-2:] == ("lablib", "mnist")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no zip", "cannot be unzipped"),
        (gzip.compress(idx(LABELS))[:-9], "cannot be unzipped"),
        (gzip.compress(b"\0\0\x0d\1" + bytes(8)), "begins with 00 00 0d 01: expected 00 00 08"),
        (gzip.compress(idx(LABELS)[:-1]), r"has 10 bytes unzipped: its header announces 11"),
        (gzip.compress(idx(LABELS)[:5]), r"has 5 bytes unzipped: its header announces more"),
    ],
    ids=("no zip", "cut short", "another type", "an item missing", "no items"),
)
def test_a_broken_file_is_named(content, says, tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        data.read_idx(path)
