"""`rslab lab` with a real JupyterLab: accounts, containers and endings that its readers have.

One server for each test, on a port that the system chooses; no browser. A notebook's kernel is
started by the server's own interface and asked what it is.
"""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 180  # seconds on a machine that has other things to do; usually four

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and mounts of POSIX")


class Server:
    """A running `rslab lab --no-browser`: its process, and the address that it printed."""

    def __init__(self, words: list[str], cwd: Path, environment: dict[str, str], terminal: bool = False):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = cwd / "lab.log"
        command = [sys.executable, "-m", "rslab", "lab", "--no-browser", *words]
        command += ["--", f"--port={self.port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=secret"]
        self.terminal = None
        if terminal:
            self.terminal, theirs = os.openpty()
            streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        else:
            theirs = os.open(self.log, os.O_CREAT | os.O_WRONLY)
            streams = {"stdin": subprocess.DEVNULL, "stdout": theirs, "stderr": theirs}
        # a session of its own whose terminal this is, as a window has
        start = [sys.executable, "-c", LEADER, *command] if terminal else command
        self.process = subprocess.Popen(start, cwd=cwd, env=environment, start_new_session=True, **streams)
        os.close(theirs)
        self.said = ""

    def read(self) -> str:
        """What it has said so far."""
        if self.terminal is None:
            return self.log.read_text(encoding="utf-8", errors="replace")
        while select.select([self.terminal], [], [], 0.2)[0]:
            try:
                self.said += os.read(self.terminal, 65536).decode("utf-8", "replace")
            except OSError:  # closed at the other end
                break
        return self.said

    def until(self, sentence: str) -> None:
        """Wait until it has said this."""
        end = time.monotonic() + LIMIT_S
        while sentence not in self.read():
            assert self.process.poll() is None and time.monotonic() < end, self.read()[-3000:]
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether anybody serves at its port."""
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self.port)) == 0

    def ask(self, method: str, path: str, body: dict | None = None) -> dict:
        """One request of Jupyter's interface."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": "token secret"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            return json.loads(answer.read())

    def kernel_says(self, runtime: Path, expression: str = "0") -> list:
        """The Python and the package of the kernel in which a notebook opens, and the value of an expression."""
        from jupyter_client import BlockingKernelClient

        name = self.ask("GET", "kernelspecs")["default"]
        body = {"path": "00_start_here.ipynb", "type": "notebook", "name": "", "kernel": {"name": name}}
        kernel = self.ask("POST", "sessions", body)["kernel"]["id"]
        client = BlockingKernelClient(connection_file=str(next(runtime.rglob(f"kernel-{kernel}.json"))))
        client.load_connection_file()
        client.start_channels(hb=False)  # a busy machine misses a beat
        try:
            client.wait_for_ready(LIMIT_S)
            said: list[dict] = []
            code = f"import json, os, sys, rslab; print(json.dumps([sys.executable, rslab.__file__, {expression}]))"
            client.execute_interactive(
                code, timeout=LIMIT_S, output_hook=lambda message: said.append(message["content"])
            )
        except (RuntimeError, TimeoutError) as error:
            pytest.fail(f"{error}: {self.read()[-3000:]}")
        finally:
            client.stop_channels()
        printed = "".join(content.get("text", "") for content in said)
        assert printed.startswith("["), said
        return json.loads(printed)

    def end(self) -> None:
        """Stop it, whatever became of the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(60)
        if self.terminal is not None:
            os.close(self.terminal)


LEADER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def account(tmp_path) -> dict[str, str]:
    """The environment of an account that has nothing yet."""
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    prefixes = ("JUPYTER", "IPYTHON", "MPL", "XDG", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return environment | {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}


@pytest.fixture
def lab(tmp_path, account):
    """Start `rslab lab` in a folder of its own; all of them are stopped afterwards."""
    servers = []

    def start(*words: str, cwd: Path | None = None, terminal: bool = False, **variables: str) -> Server:
        server = Server(list(words), cwd or tmp_path, account | variables, terminal)
        servers.append(server)
        server.until("Use Control-C to stop this server")
        return server

    yield start
    for server in servers:
        server.end()


def test_the_kits_kernel_opens_in_an_account_full_of_others(lab, tmp_path):
    home = tmp_path / "home"
    for share in (home / ".local" / "share" / "jupyter", tmp_path / "mine"):
        (share / "kernels" / "python3").mkdir(parents=True)
        (share / "kernels" / "python3" / "kernel.json").write_text(
            '{"argv": ["/bin/false", "{connection_file}"], "display_name": "Old", "language": "python"}',
            encoding="utf-8",
        )
    (home / ".jupyter").mkdir()
    (home / ".jupyter" / "jupyter_server_config.py").write_text(
        'c.KernelSpecManager.allowed_kernelspecs = {"ir"}\nc.ServerApp.kernel_spec_manager_class = "no.such.Manager"\n',
        encoding="utf-8",
    )
    stranger = tmp_path / "stranger"
    (stranger / "rslab").mkdir(parents=True)
    (stranger / "rslab" / "__init__.py").write_text("raise ImportError('a stranger')\n", encoding="utf-8")
    (tmp_path / "startup.py").write_text("raise SystemExit\n", encoding="utf-8")
    course = tmp_path / "course"
    server = lab(
        f"--work={course}",
        JUPYTER_PREFER_ENV_PATH="0",
        JUPYTER_PATH=str(tmp_path / "mine"),
        PYTHONPATH=os.pathsep.join([str(ROOT), str(stranger)]),
        PYTHONSTARTUP=str(tmp_path / "startup.py"),
        MPLBACKEND="TkAgg",
    )
    (course / "rslab.py").write_text("raise ImportError('beside the notebook')\n", encoding="utf-8")
    python, package, backend = server.kernel_says(home, "os.environ['MPLBACKEND']")
    assert Path(python).samefile(sys.executable) and Path(package) == ROOT / "rslab" / "__init__.py"
    assert "inline" in backend


def test_sigterm_ends_the_server_and_its_kernels_with_the_command(lab, tmp_path):
    server = lab("--present")
    (folder,) = (tmp_path / "tmp").glob("rslab-lab-*")
    pid = server.kernel_says(tmp_path / "home", "os.getpid()")[2]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(LIMIT_S) == 0
    assert not server.answers() and not folder.exists() and not Path(f"/proc/{pid}").exists()


def test_the_question_at_ctrl_c_can_be_answered(lab):
    server = lab(terminal=True)
    os.write(server.terminal, b"\x03")
    server.until("Shut down this Jupyter server (y/[n])?")
    os.write(server.terminal, b"n\n")
    server.until("resuming operation")
    assert server.answers() and server.process.poll() is None
    time.sleep(0.5)  # until it listens to Ctrl-C again
    os.write(server.terminal, b"\x03")
    end = time.monotonic() + LIMIT_S
    while server.read().count("Shut down this Jupyter server") < 2 and time.monotonic() < end:
        time.sleep(0.2)
    os.write(server.terminal, b"y\n")
    assert server.process.wait(LIMIT_S) == 0 and not server.answers()


def test_a_closed_window_ends_all(lab, tmp_path):
    server = lab("--present", terminal=True)
    os.close(server.terminal)
    server.terminal = None
    assert server.process.wait(LIMIT_S) >= 0  # by itself; 120 where Python could say its last words to nobody
    assert not server.answers() and not list((tmp_path / "tmp").glob("rslab-lab-*"))


def test_a_home_that_cannot_be_written(lab, tmp_path):
    (tmp_path / "a file").write_text("", encoding="utf-8")
    server = lab(HOME=str(tmp_path / "a file"))
    said = server.read()
    assert said.count("settings and caches are kept until the end in a temporary folder") == 1
    assert "Traceback" not in said
    config = server.kernel_says(tmp_path / "tmp", "os.environ['MPLCONFIGDIR']")[2]
    assert Path(config).is_dir()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(LIMIT_S) == 0 and not Path(config).exists()


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0 or not shutil.which("unshare"), reason="mounts need root")
def test_a_read_only_course_is_worked_on_and_saved_in_a_copy(lab, tmp_path):
    """The kit on a read-only mount that only the server and this test's own lines see."""
    kit = tmp_path / "kit"
    for name in ("notebooks", "rslab"):
        shutil.copytree(ROOT / name, kit / name, ignore=shutil.ignore_patterns("results", "__pycache__"))
    if subprocess.run(["mount", "--bind", "-o", "ro", kit, kit]).returncode:
        pytest.skip("no mounts here")
    try:
        server = lab(cwd=kit, terminal=True)
        copy = tmp_path / "home" / "rslab-course"
        assert f"Course folder: {copy}" in server.read() and "Read-only file system" in server.read()
        notebook = server.ask("GET", "contents/00_start_here.ipynb")
        notebook["content"]["cells"][0]["source"] = "Mine"
        server.ask("PUT", "contents/00_start_here.ipynb", {"type": "notebook", "content": notebook["content"]})
        assert '"Mine"' in (copy / "00_start_here.ipynb").read_text(encoding="utf-8")
        server.end()
        server.terminal = None
    finally:
        subprocess.run(["umount", kit], check=True)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="for root only")
def test_root_on_every_address_is_refused_by_jupyterlab(tmp_path, account):
    command = [sys.executable, "-m", "rslab", "lab", "--no-browser", "--", "--ip=0.0.0.0"]
    done = subprocess.run(command, cwd=tmp_path, env=account, capture_output=True, timeout=LIMIT_S, encoding="utf-8")
    assert done.returncode == 1 and "Running as root is not recommended. Use --allow-root" in done.stderr
