"""The guard holds where it must, and only there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

BEYOND = {
    "connect": "s = socket.socket(); s.settimeout(1); s.connect(('192.0.2.1', 80))",
    "connect-ex": "s = socket.socket(); s.settimeout(1); s.connect_ex(('192.0.2.1', 80))",
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "ipv6": "s = socket.socket(socket.AF_INET6); s.settimeout(1); s.connect(('2001:db8::1', 80))",
    "name": "socket.getaddrinfo('example.org', 80)",
    "old-name": "socket.gethostbyname('example.org')",
    "urllib": "import urllib.request; urllib.request.urlopen('http://192.0.2.1', timeout=1)",
    "child": "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', "
    "'import socket; s = socket.socket(); s.settimeout(1); s.connect((\"192.0.2.1\", 80))']).returncode)",
}
WITHIN = {
    "loopback": "l = socket.create_server(('127.0.0.1', 0)); socket.create_connection(l.getsockname())",
    "localhost": "socket.getaddrinfo('localhost', 80)",
    "unix": "a, b = socket.socketpair(); a.send(b'x')",
}


def run(code: str) -> subprocess.CompletedProcess:
    """Run one line of Python with the guard, and nothing else, on its path."""
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    return subprocess.run([sys.executable, "-c", f"import socket; {code}"], env=env, capture_output=True, text=True)


@pytest.mark.parametrize("way", BEYOND)
def test_a_connection_beyond_this_machine_is_refused(way):
    done = run(BEYOND[way])
    assert done.returncode != 0
    assert "NetworkBlocked" in done.stderr or "blocked: socket." in done.stderr


@pytest.mark.parametrize("way", WITHIN)
def test_loopback_and_local_sockets_are_free(way):
    done = run(WITHIN[way])
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif("LABLIB_STAGE" not in os.environ, reason="only `make test` sets the guard for every stage")
def test_this_very_process_is_guarded():
    assert os.environ.get("LABLIB_OFFLINE") == "1"
