"""The field's own words: what a reader who knows the literature would have to learn is not said, and not named.

Words that no source and no page may hold, as a word of a sentence or as a part of a name, each with what to say.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(p for folder in ("redteam", "attacks", "defenses") for p in (ROOT / folder).rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TESTS = sorted(p for p in (ROOT / "tests").rglob("*.py") if p.name != Path(__file__).name)
READ = [*SOURCES, *PAGES, ROOT / "fixtures" / "make.py", *TESTS]

SAY = {
    r"coins?": "random inclusion",
    r"twins?": "held-out secret",
    r"suspects?": "candidate secret",
    r"rehears\w*": "calibration run",
    r"toss(es|ed)?": "sample inclusion",
    r"lens(es)?": "soft embeddings",
    r"ceilings?": "largest attainable bound",
    r"earn(s|ed)?": "accounted",
    r"unsettled": "inconclusive",
    r"unjudge?able": "underpowered",
    r"blind control": "blind baseline",
    r"by heart": "overfitted",
    r"g(ives?|ave|iving) (\w+ ){0,3}away": "leaks",
    r"(come|comes|came) out of (the|a) model": "is extracted",
}
NAMES = {  # of classes, functions and modules, as a whole: as a word of a sentence each is good English
    "Question": "ExtractionQuery",
    "Suspect": "CandidateSecret",
    "Space": "CandidateSet",
    "Start": "InitialModel",
    "Case": "AuditInputs",
    "Lens": "SoftEmbeddings",
    "Reach": "SignalCheck",
    "Rehearsal": "CalibrationRun",
    "Coins": "RandomInclusion",
    "ask": "run_extraction",
    "place": "insert_rows",
    "see": "embed, or observe",
    "hold": "rounding_interval",
    "toss": "sample_inclusion",
}
ALLOWED = (
    r"naive[ _]twins?",  # a slow and simple second way to compute a number, which a test holds the first one to
    r"a coin (gets|exposes)",  # what findings compare with, in plain language
    r'f"redteam (canary )?coin \{',  # hashed into every membership and every planting that was ever drawn
    r'"earned"|"claimed"|"ceiling"|\(ceiling\|claimed\)',  # keys of format 1, which is still read
)
EDGE = r"(?<![a-z]){}(?![a-z])"  # an underscore, a digit or a capital ends a word of a name


def words_of(text: str) -> str:
    """Return a text with names split into words, and without what is allowed."""
    text = re.sub("|".join(ALLOWED), " ", text, flags=re.IGNORECASE)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", text).lower()


@pytest.mark.parametrize("word", SAY)
def test_a_word_of_no_literature_is_nowhere(word):
    pattern = re.compile(EDGE.format(f"(?:{word})"))
    found = [str(p.relative_to(ROOT)) for p in READ if pattern.search(words_of(p.read_text(encoding="utf-8")))]
    assert not found, f"say {SAY[word]}"


def defined(path: Path) -> list[str]:
    """Return the names of the classes and functions that a module defines."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, kinds)]


def test_nothing_has_a_name_of_our_own():
    names = {name for path in SOURCES for name in defined(path)} | {path.stem for path in SOURCES}
    assert not {name: NAMES[name] for name in names & NAMES.keys()}


def test_no_two_classes_have_one_name():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES]
    counts = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert not {name for name, count in counts.items() if count > 1}


def test_the_search_finds_what_it_looks_for():
    for text in (
        "flip a coin",
        "gives_its_canaries_away",
        "fair_coins",
        "FairCoins",
        "class _Suspect:",
        "TwinTest",
        "`ceiling`",
    ):
        assert any(re.search(EDGE.format(f"(?:{word})"), words_of(text)) for word in SAY), text
    for text in ("learned", "a naive twin", "splendid", "coincidence", "a coin gets 50", '"earned": "accounted"'):
        assert not any(re.search(EDGE.format(f"(?:{word})"), words_of(text)) for word in SAY), text
