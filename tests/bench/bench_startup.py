"""Start-up of `redteam --help` and `redteam gate` against `python -c "import typer, rich"`, in turn."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROUNDS = 15
FIXTURE = Path(__file__).parents[2] / "fixtures" / "safe" / "report.json"


def main() -> None:
    commands = {
        "import typer, rich": [sys.executable, "-c", "import typer, rich"],
        "redteam --help": [sys.executable, "-m", "redteam", "--help"],
        "redteam gate": [sys.executable, "-m", "redteam", "gate", str(FIXTURE), "-f", "json"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, capture_output=True, check=False)
            seconds[name].append(time.perf_counter() - started)
    base = median(seconds["import typer, rich"])
    for name, values in seconds.items():
        print(f"{name:<20} {median(values) * 1000:.0f} ms, ratio {median(values) / base:.2f}")


if __name__ == "__main__":
    main()
