"""`redteam verify --text`: is a privatiser of text as private as it says?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from redteam.cli import options as o
from redteam.cli.present import FORMAT, ReportFile, Trackers, check_output, deliver, exit_code, log_to, say, terminal
from redteam.cli.privatise import WordOptions, check_epsilon, chosen_mechanism
from redteam.cli.progress import progress
from redteam.core import UsageError

if TYPE_CHECKING:
    from redteam.integrations.logged import Logged
    from redteam.models.word_vectors import WordVectors
    from redteam.plugins.latent import VectorMechanism
    from redteam.verify.words.subject import PrivatiserSubject

_SHORTEST = 3  # letters of a word that is tried: shorter ones are mostly signs


@dataclass(frozen=True, kw_only=True)
class TextVerificationOptions(WordOptions):
    """What is verified of a privatiser of text, and on how much."""

    text: Annotated[
        str | None,
        o.Opt("--text", help="A text privatiser instead: an id or a name, or module:function or :mechanism."),
    ] = None
    epsilon: o.MetricEpsilon = None
    tried: Annotated[int, o.Opt("--words", min=4, help="Text: on how many words, the first of the vectors.")] = 400
    draws: Annotated[int, o.Opt("--draws", min=100, help="Text: outputs of each word that is tried.")] = 10_000


class VerificationFormat(StrEnum):
    """The formats of a verification."""

    text = "text"
    json = "json"
    html = "html"


class Verified(Protocol):
    """What any verification says."""

    @property
    def verdict(self) -> str:
        """The verdict in a word."""

    @property
    def subject(self) -> str:
        """What was verified."""

    @property
    def reason(self) -> str:
        """Why it is the verdict."""

    @property
    def exit_code(self) -> int:
        """What the command ends with."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How a verification is handed over."""

    format: Annotated[VerificationFormat, o.Opt("--format", "-f", help=FORMAT)] = VerificationFormat.text
    output: ReportFile = None
    log: Trackers = None

    def hand_over(
        self, result: Verified, render: Mapping[str, Callable[..., str]], logged: "Callable[[], Logged]"
    ) -> int:
        """Write a verification, sum it up on stderr, log it, and return the exit code."""
        look = terminal(self.output) if self.format is VerificationFormat.text else {}
        delivered = deliver(render[self.format.value](result, **look), self.output)
        say(f"{result.verdict}: {result.subject}: {result.reason}")
        delivered = log_to(self.log, logged) and delivered
        return exit_code(result.exit_code, exit_zero=False, delivered=delivered)


def verify_text(options: TextVerificationOptions, given: list[str], alpha: float, seed: int, delivery: Delivery) -> int:
    """Verify the privatiser, hand the result over, and return the exit code."""
    from redteam.integrations.logged import privatiser_logged
    from redteam.verify.words.page import render_page
    from redteam.verify.words.render import as_json, as_text
    from redteam.verify.words.run import verify_privatiser
    from redteam.verify.words.subject import PrivatiserSubject
    from redteam.verify.words.vectors import verify_vectors

    check_output(delivery.output, Path(options.embeddings))
    subject = _subject(options, given)
    how: dict[str, Any] = {"draws": options.draws, "alpha": alpha, "seed": seed}
    with progress("drawing") as show:
        if isinstance(subject, PrivatiserSubject):
            result = verify_privatiser(subject, **how, progress=show)
        else:
            result = verify_vectors(subject, **how, progress=show)
    render = {"text": as_text, "json": as_json, "html": render_page}
    return delivery.hand_over(result, render, lambda: privatiser_logged(result))


def _subject(options: TextVerificationOptions, given: list[str]) -> "PrivatiserSubject | VectorMechanism":
    from redteam.plugins.mechanism import WordMechanism
    from redteam.verify.words.subject import load_subject, of_mechanism

    named = options.text or ""
    if options.epsilon is not None:
        check_epsilon(options.epsilon)
    if ":" in named:
        say(f"{named}: this runs the module's code")
        return load_subject(named, options.epsilon, given, lambda: _some(options), options.unknown.value)
    if options.epsilon is None:
        raise UsageError(f"--epsilon: say at which epsilon {named} is verified")
    mechanism = chosen_mechanism(named, options.epsilon, given)
    if not isinstance(mechanism, WordMechanism):
        return mechanism
    return of_mechanism(mechanism, _some(options), options.unknown.value)


def _some(options: TextVerificationOptions) -> "WordVectors":
    """Return the vectors of the words that are tried."""
    import numpy as np

    from redteam.models.word_vectors import load_word_vectors

    table = load_word_vectors(options.embeddings)
    long = [i for i, word in enumerate(table.words) if len(word) >= _SHORTEST] or list(range(len(table)))
    return table.take(np.array(long[: options.tried]))
