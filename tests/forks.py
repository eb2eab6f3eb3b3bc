"""The command line in a process of its own that starts at once: a fork of one that has imported everything.

Importing torch takes seconds, and a hundred commands would pay for it. A server imports it once; each command is a
fork of it with arguments, folder, environment and streams of its own, and with a real exit code.
"""

import atexit
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import ROOT

_SERVER = """
import atexit, gc, json, os, sys, time
import kept_rows
import httpx, pyarrow.parquet, scipy.stats, sklearn.feature_extraction.text, sklearn.linear_model, torch, transformers
import redteam.auditing.run, redteam.cli, redteam.cli.progress, redteam.models.opening, redteam.auditing.selftest
import redteam.cli.audit, redteam.cli.canary, redteam.cli.drill, redteam.cli.gap, redteam.cli.train, redteam.cli.verify
import redteam.cli.privatise, redteam.training.privatising.release
import redteam.targets.model, redteam.training.train
from redteam.plugins.registry import discover_attacks, discover_defenses, discover_mechanisms

redteam.cli.progress._LINE_EVERY = float("inf")  # or the time that a machine takes would show in what is compared
discover_attacks(), discover_defenses(), discover_mechanisms()
kept_rows.keep(sys.argv[1])
gc.freeze()
while line := sys.stdin.readline():
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in enumerate((job["stdout"], job["stderr"]), start=1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), number)
        os.chdir(job["cwd"])
        os.environ.clear()
        os.environ.update(job["env"])
        sys.argv = ["redteam", *job["arguments"]]
        sys.path[0] = job["cwd"]
        exec(job["before"])
        try:
            redteam.cli.main()
        except SystemExit as end:
            atexit._run_exitfuncs()
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(end.code)  # taking a process with torch apart takes longer than most of the commands
    if job["kill"]:
        number, sign = job["kill"]
        while not os.path.exists(sign) and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.005)
        os.kill(child, number)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
_LONGEST = 900.0  # seconds: only what hangs takes longer


@functools.cache
def _server():
    folder = tempfile.TemporaryDirectory(prefix="kept-rows-")
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, folder.name],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_stop, process, folder)
    return process


def _stop(process, folder):
    process.stdin.close()
    process.wait(timeout=300)
    process.stdout.close()
    folder.cleanup()


def fast(*arguments, cwd, env=None, stdout=None, before="", kill=None):
    """Run one command in `cwd` and return a CompletedProcess.

    `stdout` names a file to print to, such as /dev/full. `before` is Python that the process runs first, to break
    something inside. `kill` is a signal to send to it and the file that has to appear first.
    """
    server = _server()
    environment = {**os.environ, "NO_COLOR": "1", "XDG_CACHE_HOME": f"{cwd}/cache", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        streams = {"stdout": stdout or str(Path(folder) / "out"), "stderr": str(Path(folder) / "err")}
        job = {"arguments": [str(a) for a in arguments], "cwd": str(cwd), "env": environment | (env or {})}
        job |= {"before": before, "kill": kill and (int(kill[0]), str(kill[1]))}
        server.stdin.write(json.dumps(job | streams) + "\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], _LONGEST)[0]:
            server.kill()
            raise TimeoutError(f"redteam {' '.join(job['arguments'])}: no end after {_LONGEST:.0f} s")
        code = int(server.stdout.readline())
        out, err = ("" if path == stdout else Path(path).read_text(encoding="utf-8") for path in streams.values())
    return subprocess.CompletedProcess(job["arguments"], code, out, err)
