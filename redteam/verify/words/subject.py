"""What is verified: a mechanism of ours or of a module, with its channel, or a function from a text to a text."""

import contextlib
import inspect
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redteam.core import TargetError, UsageError, first_line
from redteam.core.randomness import Randomness
from redteam.models.word_vectors import WordVectors
from redteam.plugins.latent import VectorMechanism
from redteam.plugins.mechanism import Promise, WordMechanism
from redteam.plugins.settings import tune
from redteam.training.privatising.exchange import Exchange
from redteam.training.privatising.record import Unknown

Rewrite = Callable[[Sequence[str]], list[str]]
_LONGEST = 900.0  # seconds of a run in a process of its own
_RUN = """
import contextlib, json, sys
sys.path.insert(0, "")
texts = json.load(sys.stdin)
with contextlib.redirect_stdout(sys.stderr):
    from redteam.targets.function import import_function
    function = import_function(sys.argv[1])[0]
    try:
        made = [function(text) for text in texts]
    except (Exception, SystemExit) as error:  # what it says can hold the word that was asked
        sys.exit(f"raised {type(error).__name__} for a text of one word")
for text in made:
    assert isinstance(text, str), f"answered {type(text).__name__} where a text was asked for"
json.dump(made, sys.stdout)
"""


@dataclass(frozen=True)
class PrivatiserSubject:
    """A privatiser: `rewrite` asks it here, `fresh` as a run of its own would; `table` has the words it is tried on.

    `epsilon` is what it claims of their distances, `plain` of any two words, if it says so. `mechanism` is there where
    its channel can be asked for.
    """

    name: str
    epsilon: float
    table: WordVectors
    rewrite: Rewrite
    fresh: Rewrite
    mechanism: WordMechanism | None = None
    plain: float = math.inf


def of_mechanism(mechanism: WordMechanism, table: WordVectors, unknown: Unknown = "mask") -> PrivatiserSubject:
    """Return a mechanism as it is run on a file: every run with fresh randomness of the operating system."""

    def run(texts: Sequence[str]) -> list[str]:
        return Exchange(mechanism, table, unknown).texts(texts, Randomness())[0]

    made = promised(mechanism, table)
    return PrivatiserSubject(
        f"{mechanism.id} {mechanism.name}", made.epsilon, table, run, run, mechanism, plain=made.plain
    )


def promised(mechanism: WordMechanism, table: WordVectors) -> Promise:
    """Return what a mechanism claims; TargetError where that is no number, or promises nothing."""
    made = mechanism.promise(table)
    if not (math.isfinite(made.epsilon) and made.epsilon > 0 and made.plain >= 0):
        raise TargetError(
            f"{mechanism.name}: promises epsilon {made.epsilon:g} and plain {made.plain:g} for words of {table.name}; "
            "epsilon is a finite number above 0"
        )
    return made


def load_subject(
    source: str, epsilon: float | None, given: Sequence[str], words: Callable[[], WordVectors], unknown: Unknown
) -> PrivatiserSubject | VectorMechanism:
    """Import `module:name`, which runs the module: a function of a text, or a class or object that is a mechanism.

    `epsilon` is what it claims, `given` are settings of a mechanism, `words` gives those that are tried. Raises
    TargetError or UsageError.
    """
    from redteam.targets.function import import_function

    found, _, directory = import_function(source)
    if inspect.isclass(found) and issubclass(found, (WordMechanism, VectorMechanism)):
        found = found()
    if isinstance(found, VectorMechanism):
        (vectors,) = tune([found], given)
        return vectors if epsilon is None else replace(vectors, epsilon=epsilon)  # type: ignore[type-var]
    if isinstance(found, WordMechanism):
        (mechanism,) = tune([found], given)
        if epsilon is not None:
            mechanism = replace(mechanism, epsilon=epsilon)  # type: ignore[type-var]
        return replace(of_mechanism(mechanism, words(), unknown), name=source)
    if not callable(found):
        raise TargetError(f"{source}: not callable; name a function from a text to a text, or a WordMechanism")
    if given:
        raise UsageError(f"--set {given[0]}: is for mechanisms; {source} is a function")
    if epsilon is None:
        raise UsageError(f"--epsilon: say what {source} claims, for each unit of distance of --embeddings")

    def run(texts: Sequence[str]) -> list[str]:
        from redteam.targets.function import surroundings

        with surroundings(directory), contextlib.redirect_stdout(sys.stderr):
            return [_text(source, found, text) for text in texts]

    return PrivatiserSubject(source, epsilon, words(), run, lambda texts: _in_a_process(source, texts))


def _text(source: str, function: Callable[[str], Any], text: str) -> str:
    try:
        answer = function(text)
    except (Exception, SystemExit) as error:
        raise TargetError(f"{source}: raised {type(error).__name__} for a text of one word") from None
    if not isinstance(answer, str):
        raise TargetError(f"{source}: answered {type(answer).__name__} where a text was asked for")
    return answer


def _in_a_process(source: str, texts: Sequence[str]) -> list[str]:
    """Return what the function answers in a process that has just begun."""
    command = [sys.executable, "-c", _RUN, source]
    try:
        done = subprocess.run(
            command, input=json.dumps(list(texts)), capture_output=True, text=True, timeout=_LONGEST, check=False
        )
        answers: list[str] = json.loads(done.stdout) if done.returncode == 0 else []
    except subprocess.TimeoutExpired:
        raise TargetError(f"{source}: no answer for {len(texts)} words after {_LONGEST:.0f} s in a process") from None
    except ValueError as error:
        raise TargetError(f"{source}: no list of texts from a process of its own ({first_line(error)})") from None
    if done.returncode or len(answers) != len(texts):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:160]
        raise TargetError(f"{source}: fails in a process of its own ({last})")
    return answers
