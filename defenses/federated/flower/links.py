"""Flower's processes: a SuperLink of our own for simulation, and runs on one, with their status.

Nothing is sent to Flower's makers, nothing installed at run time, and no daemon stays behind. `flwr run` exits 0
whatever becomes of the run, so its status is asked for.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from redteam.core import RedteamError, UsageError

_OFF = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
_APP = """[project]
name = "redteamrun"
version = "0.0.1"
license = "Apache-2.0"
dependencies = []
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "redteam"
[tool.flwr.app.components]
serverapp = "redteamrun.s:app"
clientapp = "redteamrun.c:app"
[tool.flwr.app.config]
"""
_UP = 60.0  # seconds that a SuperLink may take to come up
_ASK = 3.0  # seconds between two questions for a run's status: each costs a second of a processor,
_SELDOM = 5.0  # and on a busy machine many times that, which is left between them


def check_installed(engine: str) -> None:
    """Raise UsageError where Flower is missing."""
    if importlib.util.find_spec("flwr") is None:
        raise UsageError(f"engine {engine}: Flower is not installed; run: pip install '.[federated]'")


def check_reachable(address: str) -> None:
    """Raise UsageError where nobody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"superlink {address}: write HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UsageError(f"superlink {address}: cannot be reached ({why}); start flower-superlink there") from None


class Link:
    """A connection to a SuperLink, started here (`simulate` nodes on Ray) or running at `address`."""

    def __init__(self, *, simulate: int | None, address: str | None = None, certificates: Path | None = None) -> None:
        """Start it where it is to be simulated; raise RedteamError where it does not come up."""
        self.home = Path(tempfile.mkdtemp(prefix="redteam-flower-"))
        self.simulate, self.process, self.run = simulate, None, ""
        self._next = 0.0
        where = f"127.0.0.1:{free_port()}" if address is None else address
        tls = "insecure = true" if certificates is None else f"root-certificates = {json.dumps(str(certificates))}"
        config = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{where}"\n{tls}\n'
        (self.home / "config.toml").write_text(config, encoding="utf-8")
        if address is None:
            self.process = start(
                "flower-superlink", "--insecure", "--simulation", *_at(where), home=self.home, log="superlink"
            )
            self._await(where)

    def submit(self, settings: dict[str, str | int]) -> None:
        """Run the apps with these settings; RedteamError where the SuperLink takes no run."""
        app = self.home / "app"
        (app / "redteamrun").mkdir(parents=True)
        for file, text in (
            ("__init__.py", ""),
            ("s.py", "import defenses.federated.flower.apps as m\napp = m.server_app()\n"),
            ("c.py", "import defenses.federated.flower.apps as m\napp = m.client_app()\n"),
        ):
            (app / "redteamrun" / file).write_text(text, encoding="utf-8")
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        (app / "pyproject.toml").write_text(_APP + lines, encoding="utf-8")
        nodes = f"num-supernodes={self.simulate} client-resources-num-cpus=1"
        federation = [] if self.simulate is None else ["--federation-config", nodes]
        said = self._flwr("run", str(app), "here", *federation, "--format", "json")
        self.run = str(_document(said).get("run-id", ""))
        if not self.run:
            raise RedteamError(f"Flower took no run: {' '.join(said.split())[-200:]}")

    def check(self) -> None:
        """Raise RedteamError where the run has ended or the SuperLink died; asked every few seconds."""
        begun = time.monotonic()
        if begun < self._next:
            return
        if self.process is not None and self.process.poll() is not None:
            raise RedteamError(f"Flower's SuperLink ended with exit code {self.process.returncode}")
        runs = _document(self._flwr("list", "here", "--run-id", self.run, "--format", "json")).get("runs") or [{}]
        self._next = time.monotonic() + max(_ASK, _SELDOM * (time.monotonic() - begun))
        status = str(runs[0].get("status", "unknown"))
        if status.startswith("finished"):
            why = runs[0].get("status-details") or "no reason given"
            raise RedteamError(f"Flower's run ended early, {status}: {why}")

    def close(self) -> None:
        """End what was started here."""
        if self.run and self.process is None:
            self._flwr("stop", self.run, "here")
        stop(self.process)
        shutil.rmtree(self.home, ignore_errors=True)

    def _await(self, where: str) -> None:
        begun = time.monotonic()
        while True:
            with contextlib.suppress(UsageError):
                check_reachable(where)
                return
            if self.process is None or self.process.poll() is not None or time.monotonic() - begun > _UP:
                log = (self.home / "superlink.log").read_text(errors="replace")
                self.close()
                raise RedteamError(f"Flower's SuperLink did not come up: {' '.join(log.split())[-200:]}")
            time.sleep(0.1)

    def _flwr(self, *arguments: str) -> str:
        command = [program("flwr"), *arguments]
        done = subprocess.run(command, env=surroundings(self.home), capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


def start(name: str, *arguments: str, home: Path, log: str) -> "subprocess.Popen[bytes]":
    """Start a program of Flower in a process group of its own, its output in a file of `home`."""
    with (home / f"{log}.log").open("wb") as file:
        return subprocess.Popen(
            [program(name), *arguments],
            env=surroundings(home),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: "subprocess.Popen[bytes] | None") -> None:
    """End a process and all that it started."""
    if process is None:
        return
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def surroundings(home: Path) -> dict[str, str]:
    """Return the environment of Flower's processes: its own folder, no telemetry, no proxy before this machine."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in ("http_proxy", "https_proxy")}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    modules = os.pathsep.join(each for each in (*sys.path, kept.get("PYTHONPATH", "")) if each)
    return kept | _OFF | {"PATH": path, "PYTHONPATH": modules, "FLWR_HOME": str(home)}


def program(name: str) -> str:
    """Return the path of a program beside this Python, or on the path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _at(where: str) -> list[str]:
    host, _, port = where.rpartition(":")
    return ["--host", host, "--port", port]


def _document(said: str) -> dict[str, Any]:
    """Return the first JSON object of what a program printed; empty where there is none."""
    with contextlib.suppress(ValueError):
        found, _ = json.JSONDecoder().raw_decode(said[said.index("{") :])
        return found if isinstance(found, dict) else {}
    return {}
