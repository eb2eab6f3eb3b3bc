"""`redteam privatise`: exchange the words of a data file at random, and say what that promises and what it does not."""

import logging
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redteam.cli import options as o
from redteam.cli.present import check_output, say, tell
from redteam.cli.progress import progress
from redteam.core import UsageError

if TYPE_CHECKING:
    from redteam.plugins.latent import VectorMechanism
    from redteam.plugins.mechanism import WordMechanism
    from redteam.training.privatising.exchange import Exchange
    from redteam.training.privatising.release import Rewriter

Opt = typer.Option
_MOST_EPSILON = 1e12


class UnknownWords(StrEnum):
    """What is put for a word that has no vector."""

    mask = "mask"
    classes = "class"
    keep = "keep"


@dataclass(frozen=True, kw_only=True)
class WordOptions:
    """Which vectors words have, and what is done with those that have none."""

    embeddings: o.Embeddings = "minilm"
    unknown: Annotated[
        UnknownWords,
        Opt("--unknown", help="Words without a vector: mask them, draw one of their class, or keep them (leaks)."),
    ] = UnknownWords.mask

    def exchange(self, mechanism: "WordMechanism") -> "Exchange":
        """Return the mechanism with its vectors; UsageError where they do not go together."""
        from redteam.models.word_vectors import load_word_vectors
        from redteam.training.privatising.exchange import Exchange

        with progress("reading word vectors") as show:
            table = replace(load_word_vectors(self.embeddings), watch=show.named("measuring word vectors"))
            mechanism.promise(table)  # which wants the distances of all words, and they are kept
        return Exchange(mechanism, table, self.unknown.value)


def privatise(
    *,
    data: o.LabelledTexts,
    output: Annotated[Path, Opt("--output", "-o", help="The file to write: .csv, .tsv or .jsonl.")],
    mechanism: Annotated[
        str, Opt("--mechanism", help="How words are exchanged, by id or name; see: redteam defenses.")
    ],
    epsilon: o.MetricEpsilon,
    words: WordOptions,
    public: Annotated[
        Path | None, Opt("--public", help="Public texts that adept learns from; without, DATA: no guarantee.")
    ] = None,
    set: o.Set = None,
    seed: o.SeedOrNone = None,
    columns: o.RowOptions,
    restart: o.Restart = False,
) -> None:
    """Exchange the words of DATA at random, before training.

    Randomness is the operating system's; with --seed there is no guarantee. Labels and the columns that are named are
    copied, all others are left out.
    """
    from redteam.training.privatising.release import privatise as run
    from redteam.training.privatising.wording import doubts, four_lines

    check_output(output, data, public, Path(words.embeddings))
    assert epsilon is not None  # it has no default
    exchange = _rewriter(chosen_mechanism(mechanism, epsilon, set or []), words, data, public, columns)
    if seed is not None:
        say(f"--seed {seed}: whoever knows the seed can undo all of it: there is no guarantee", logging.WARNING)
    if words.unknown is UnknownWords.keep:
        say(
            "--unknown keep: words without a vector stay, and tell whose text it is: there is no guarantee for them",
            logging.WARNING,
        )
    with progress("privatising") as show:
        made = run(data, output, exchange, columns=columns.columns(), seed=seed, restart=restart, progress=show)
    for note in (*made.notes, *doubts(made.privatisation)):
        say(note)
    tell("\n".join(four_lines(made.privatisation)))
    say(f"wrote {made.output} and {made.record}, which is private; next: redteam train {made.output}")


def _rewriter(
    mechanism: "WordMechanism | VectorMechanism",
    words: WordOptions,
    data: Path,
    public: Path | None,
    columns: o.RowOptions,
) -> "Rewriter":
    """Return the mechanism with its vectors, or with an autoencoder that is learned now."""
    from redteam.plugins.mechanism import WordMechanism
    from redteam.training.privatising.rebuilding import Rebuilding

    if isinstance(mechanism, WordMechanism):
        if public is not None:
            raise UsageError(f"--public {public}: is for adept; {mechanism.name} learns nothing")
        return words.exchange(mechanism)
    if words != WordOptions():
        raise UsageError(f"--embeddings and --unknown are for words; {mechanism.name} rewrites whole texts")
    with progress("learning") as show:
        made = Rebuilding.learned(mechanism, data, public, columns.columns(), show)
    if not made.public:
        say(
            f"{mechanism.name} was learned from texts of {data.name} and can repeat them: there is no guarantee; give "
            "public texts with --public",
            logging.WARNING,
        )
    elif made.shared:
        say(
            f"{made.shared:,} texts of {data.name} stand in {public} too: nothing is guaranteed for these, which are "
            "public already",
            logging.WARNING,
        )
    return made


def chosen_mechanism(named: str, epsilon: float, given: list[str]) -> "WordMechanism | VectorMechanism":
    """Return a mechanism by its id or name with its settings; UsageError for an epsilon that is none."""
    from redteam.plugins.latent import VectorMechanism
    from redteam.plugins.mechanism import WordMechanism
    from redteam.plugins.registry import choose, discover_mechanisms, discover_vector_mechanisms
    from redteam.plugins.settings import tune

    check_epsilon(epsilon)
    known: tuple[WordMechanism | VectorMechanism, ...] = (*discover_mechanisms(), *discover_vector_mechanisms())
    (found,) = tune(choose(known, [named]), given)
    return replace(found, epsilon=epsilon)  # type: ignore[type-var]


def check_epsilon(epsilon: float) -> None:
    """Raise UsageError for an epsilon that is none, or with which noise could not be computed."""
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise UsageError(f"--epsilon {epsilon:g}: give a finite number above 0")
    if not 1 / _MOST_EPSILON <= epsilon <= _MOST_EPSILON:
        raise UsageError(f"--epsilon {epsilon:g}: give a number from {1 / _MOST_EPSILON:g} to {_MOST_EPSILON:g}")


def privatised_file(data: Path, model: Path, asked: str, columns: o.RowOptions) -> Path:
    """Return a file beside a model in which the words of `data` are exchanged as MECHANISM=EPSILON asks.

    One that was made so before is used again: every further release of the same texts would cost its epsilon once more.
    """
    from redteam.data import fingerprint
    from redteam.training.privatising.record import record_beside
    from redteam.training.privatising.release import privatise as run
    from redteam.training.privatising.wording import doubts, four_lines

    name, _, number = asked.partition("=")
    try:
        epsilon = float(number)
    except ValueError:
        raise UsageError(f"--privatise {asked}: write MECHANISM=EPSILON, such as santext=20") from None
    from redteam.plugins.mechanism import WordMechanism

    mechanism = chosen_mechanism(name, epsilon, [])
    if not isinstance(mechanism, WordMechanism):
        raise UsageError(f"--privatise {asked}: needs public texts; run redteam privatise --public FILE first")
    output = model.with_name(f"{model.stem}.private.csv")
    made = record_beside(output)
    if made is not None:
        if (made.mechanism, made.epsilon, made.source.sha256) != (mechanism.id, epsilon, fingerprint(data)):
            raise UsageError(f"{output}: was privatised otherwise; remove it, or name another model with -o")
        say(f"{output}: made before, and used again: another release would cost its epsilon once more")
        return output
    exchange = WordOptions().exchange(mechanism)
    with progress("privatising") as show:
        released = run(data, output, exchange, columns=columns.columns(), progress=show)
    for line in (*released.notes, *doubts(released.privatisation), *four_lines(released.privatisation)):
        say(line)
    return output
