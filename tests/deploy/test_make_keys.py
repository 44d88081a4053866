"""``deploy/make-keys`` as an operator runs it, read back with Python's own TLS at its strictest."""

import contextlib
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from pathlib import Path

import pytest

MAKE_KEYS = Path(__file__).parents[2] / "deploy" / "make-keys"

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None or shutil.which("ssh-keygen") is None, reason="openssl or ssh-keygen is missing"
)


@pytest.fixture
def make_keys(tmp_path):
    def run(*words, code=0):
        done = subprocess.run([MAKE_KEYS, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shakes_hands(folder, host):
    """A client that trusts the CA alone, as strict as Python 3.13 is, meets a server with the certificate."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    client = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    near, far = socket.socketpair()

    def answer():
        # A client that refuses hangs up.
        with far, contextlib.suppress(ssl.SSLError, OSError):
            server.wrap_socket(far, server_side=True).close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with near, client.wrap_socket(near, server_hostname=host):
            return True
    except ssl.SSLCertVerificationError:
        return False
    finally:
        thread.join()


def test_the_certificate_holds_for_every_host_and_for_no_other(make_keys, tmp_path):
    make_keys("--host", "superlink.example", "--host", "192.0.2.10", "--host", "fd00::1")
    keys = tmp_path / "keys"
    for host in ("superlink.example", "192.0.2.10", "fd00::1", "localhost", "127.0.0.1"):
        assert shakes_hands(keys, host), host
    for host in ("other.example", "192.0.2.11"):
        assert not shakes_hands(keys, host), host


def test_files_are_private_and_stay_out_of_repositories(make_keys, tmp_path):
    make_keys("--folder", "here", "--host", "a.example", "pi-1")
    for path in (tmp_path / "here").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert {str(path) for path in contents(tmp_path / "here")} == {
        ".gitignore", "ca.crt", "ca.key", "server.crt", "server.key", "nodes/pi-1", "nodes/pi-1.pub",
    }  # fmt: skip
    assert (tmp_path / "here" / ".gitignore").read_text() == "*\n"


def test_a_node_can_be_added_later_and_nothing_changes(make_keys, tmp_path):
    make_keys("--host", "a.example", "pi-1")
    before = contents(tmp_path / "keys")
    told = make_keys("pi-1", "pi-2")
    after = contents(tmp_path / "keys")
    assert before.items() <= after.items()
    assert {str(path) for path in after.keys() - before.keys()} == {"nodes/pi-2", "nodes/pi-2.pub"}
    assert "supernode register" in told
    assert "pi-2.pub fleet --name pi-2" in told
    assert "pi-1.pub fleet" not in told
    assert "--superlink a.example:8000" in told


def test_a_renewed_certificate_has_the_same_key_and_authority(make_keys, tmp_path):
    make_keys("--host", "a.example")
    before = contents(tmp_path / "keys")
    (tmp_path / "keys" / "server.crt").unlink()
    make_keys("--host", "b.example")
    changed = {str(path) for path, held in contents(tmp_path / "keys").items() if held != before[path]}
    assert changed == {"server.crt"}
    assert shakes_hands(tmp_path / "keys", "b.example")
    assert not shakes_hands(tmp_path / "keys", "a.example")


def test_a_lost_public_key_is_made_again(make_keys, tmp_path):
    make_keys("--host", "a.example", "pi-1")
    public = tmp_path / "keys" / "nodes" / "pi-1.pub"
    before = public.read_text().split()[:2]
    public.unlink()
    make_keys("pi-1")
    assert public.read_text().split()[:2] == before


def test_a_certificate_that_ends_soon_is_told(make_keys):
    assert "30 days" not in make_keys("--host", "a.example")
    assert "30 days" in make_keys("--folder", "short", "--host", "a.example", "--days", "3") + make_keys(
        "--folder", "short"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give --host"),
        (["--host"], "--host needs a value"),
        (["--days", "soon", "--host", "a"], "whole number of days"),
        (["--host", "a,b"], "neither a host name nor an address"),
        (["--nonsense"], "no option --nonsense"),
        (["--host", "a", "../pi"], "no name for a node"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(make_keys, tmp_path, words, said):
    assert said in make_keys(*words, code=2)
    assert not contents(tmp_path)


def test_another_host_is_refused_while_the_certificate_stands(make_keys, tmp_path):
    make_keys("--host", "a.example")
    before = contents(tmp_path)
    assert "server.crt is not for b.example" in make_keys("--host", "b.example", code=1)
    assert contents(tmp_path) == before


def test_half_an_authority_is_never_replaced(make_keys, tmp_path):
    make_keys("--host", "a.example")
    (tmp_path / "keys" / "ca.crt").unlink()
    assert "ca.key without ca.crt" in make_keys("pi-1", code=1)


def test_an_authority_kept_elsewhere_still_lets_nodes_join(make_keys, tmp_path):
    make_keys("--host", "a.example")
    (tmp_path / "keys" / "ca.key").unlink()
    make_keys("pi-1")
    (tmp_path / "keys" / "server.crt").unlink()
    assert "ca.key is needed" in make_keys("--host", "a.example", code=1)


def test_help_needs_nothing(make_keys, tmp_path):
    assert make_keys("--help").startswith("Usage: make-keys")
    assert not contents(tmp_path)
