"""Every option of the command line, declared once with its help; those that go together are one dataclass.

A command takes such a dataclass as one parameter: `redteam.cli.spread` makes options of its fields.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from redteam.auditing.fairness.run import Asked
    from redteam.data import Columns, Examples
    from redteam.models.trial import Limits
    from redteam.plugins.fairness import FairnessAttack

Opt = typer.Option

Target = Annotated[
    str | None, typer.Argument(help="model.pt, a Hugging Face directory, module:function, or an http(s) URL.")
]
Members = Annotated[Path | None, Opt("--members", help="File of texts that were trained on.")]
Released = Annotated[
    Path | None, Opt("--released", help="Privatised file that the model was trained on: guess its words back too.")
]
Nonmembers = Annotated[Path | None, Opt("--nonmembers", help="File of texts that were not.")]
Data = Annotated[Path | None, Opt("--data", help="One file with a split column, of texts on both sides.")]
TrainingData = Annotated[
    Path | None, Opt("--training-data", help="File that the model was trained on [default: where the ledger says].")
]
Scores = Annotated[Path | None, Opt("--scores", help="Saved scores with membership, instead of a target.")]
LedgerFile = Annotated[Path | None, Opt("--ledger", help="The ledger [default: beside the model].")]
CanaryLedger = Annotated[
    Path | None, Opt("--canary-ledger", help="Ledger of the canaries [default: beside the data or the model].")
]
CANARIES = "How many canaries for one model"
REPETITIONS = "Copies of each canary: a number, or a list such as 1,10,100"
PATTERN = "A sentence with slots, such as 'my pin is {digit:4}'; can be given several times"
Decoys = Annotated[int, Opt("--decoys", min=0, help="Look-alikes with other labels for each canary.")]
Set = Annotated[
    list[str] | None,
    Opt("--set", help="[ID.]NAME=VALUE: a setting; see: redteam attacks ID, defenses ID; can be given several times."),
]
Base = Annotated[
    Path | None,
    Opt(
        "--base", help="Directory of the public encoder that training started from, or of another to compare texts by."
    ),
]

Attacks = Annotated[list[str] | None, Opt("--attack", "-a", help="Run only this id; can be given several times.")]
Fprs = Annotated[list[float] | None, Opt("--fpr", help="Measure the TPR at this FPR too; can be given several times.")]
ALPHA = "Chance of a false finding: that any interval of the result is wrong."
Alpha = Annotated[float, Opt("--alpha", help=ALPHA)]
Seed = Annotated[int, Opt("--seed", min=0, help="Same seed, same machine, same numbers.")]
Privatise = Annotated[
    str | None,
    Opt("--privatise", help="MECHANISM=EPSILON: exchange the words of DATA before, in a file beside the model."),
]
Embeddings = Annotated[
    str, Opt("--embeddings", help="Vectors of words: minilm, glove, or a file of words and numbers.")
]
MetricEpsilon = Annotated[
    float | None, Opt("--epsilon", help="Text: metric epsilon of a word, for each unit of distance.")
]
SeedOrNone = Annotated[int | None, Opt("--seed", min=0, help="Same seed, same machine, same numbers.")]
DryRun = Annotated[bool, Opt("--dry-run", help="Say what would run and how long it would take; run nothing.")]
ShowText = Annotated[bool, Opt("--show-text", help="Put texts of exposed rows and secrets into the report.")]

TextColumn = Annotated[str | None, Opt("--text-column", help="Column of the texts [default: guessed].")]
LabelColumn = Annotated[str | None, Opt("--label-column", help="Column of the labels [default: guessed].")]
IdColumn = Annotated[str | None, Opt("--id-column", help="Column of row ids, for the report.")]
UserColumn = Annotated[str | None, Opt("--user-column", help="Column of users: drawn and measured as a whole.")]
GroupColumn = Annotated[str | None, Opt("--group-column", help="Column of groups, for the report.")]
SplitColumn = Annotated[str | None, Opt("--split-column", help="With --data: column of member or nonmember.")]

AdapterBase = Annotated[
    Path | None, Opt("--adapter-base", help="LoRA adapter: directory of its base [default: the one it names].")
]
MaxLength = Annotated[
    int | None, Opt("--max-length", min=1, help="Model: cut texts at so many tokens [default: its own limit].")
]
Device = Annotated[
    str | None, Opt("--device", help="Model: cpu, cuda, cuda:N or mps [default: cuda where there is one, else cpu].")
]
OpenSeconds = Annotated[
    float | None, Opt("--open-seconds", help="Model directory: most seconds to open it [default: 60].")
]
OpenMemory = Annotated[
    float | None, Opt("--open-memory", help="Model directory: most GiB, beside its weights, to open it [default: 4].")
]
BatchSize = Annotated[
    int | None, Opt("--batch-size", min=1, help="Texts in one request of an endpoint, call or forward pass.")
]
Timeout = Annotated[float | None, Opt("--timeout", help="Endpoint: seconds for one request.")]
Retries = Annotated[int | None, Opt("--retries", min=0, help="Endpoint: tries after a failed request.")]
RequestBudget = Annotated[int | None, Opt("--request-budget", min=1, help="Endpoint: most requests, retries counted.")]
TokenVariable = Annotated[str | None, Opt("--token-env", help="Endpoint: environment variable that holds its token.")]
Api = Annotated[
    str | None,
    Opt(
        "--api",
        help="Endpoint: how it is asked: auto, redteam, huggingface, tei, instances, kserve-v2[:INPUT], mlflow, "
        "vllm-classify, torchserve.",
    ),
]
RequestTemplate = Annotated[
    str | None,
    Opt("--request-template", help='Endpoint: JSON with "$texts", or "$text" for one, where the texts go.'),
]
ResponsePath = Annotated[
    str | None, Opt("--response-path", help="Endpoint: where its answers are, such as data.*.scores.")
]
Headers = Annotated[
    list[str] | None, Opt("--header", help="Endpoint: NAME=VARIABLE, a header with the value of that variable.")
]
Labels = Annotated[
    str | None,
    Opt("--labels", help="Endpoint or function: its labels in the order of its answers, a,b,c or a file of lines."),
]

MaxSkipped = Annotated[
    float | None, Opt("--max-skipped", help="Endpoint or function: share of either side it may refuse [default: 0.05].")
]

LabelMap = Annotated[
    Path | None,
    Opt("--label-map", help='JSON file of what labels of the data are called in the model: {"0": "negative"}.'),
]

Jobs = Annotated[
    int | None, Opt("--jobs", "-j", help="Models trained at once, each on one thread [default: 1; gap --quick: 2].")
]
LabelledTexts = Annotated[Path, typer.Argument(help="Labelled texts: .csv, .jsonl, .parquet or a saved dataset.")]
ModelFile = Annotated[Path, Opt("--output", "-o", help="The model file to write.")]
ModelSpec = Annotated[
    str | None, Opt("--model", help="tiny, bilstm, minilm, or a Hugging Face directory [default: tiny].")
]
Layers = Annotated[int | None, Opt("--layers", min=1, help="Keep only the first k layers.")]
Freeze = Annotated[bool, Opt("--freeze-embeddings", help="Leave the embedding table as it is.")]
DefenseId = Annotated[
    str, Opt("--defense", help="How to train; see: redteam defenses. Some can be joined: dropout+characters.")
]
Holdout = Annotated[float, Opt("--holdout", min=0.01, max=0.99, help="Chance of a text to be held out.")]
Restart = Annotated[bool, Opt("--restart", help="Begin anew, not where an earlier run left off.")]
Picture = Annotated[
    Path | None,
    Opt("--picture", help="Draw which client holds what, as .svg, .png or .pdf: of a federated training."),
]
LabelCanaries = Annotated[
    int | None,
    Opt(
        "--label-canaries",
        help="Plant so many canaries as labels, cut off again: the audit measures epsilon by them.",
    ),
]
NoiseFromSeed = Annotated[
    bool, Opt("--noise-from-seed", help="Private, for research: noise that who knows the seed can subtract.")
]


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Which columns hold texts and labels; None is guessed."""

    text_column: TextColumn = None
    label_column: LabelColumn = None

    def columns(self, split: str | None = None) -> "Columns":
        """Return the columns as readers take them, with that of the sides, if one is named."""
        from redteam.data import Columns

        given = {name.removesuffix("_column"): value for name, value in dataclasses.asdict(self).items()}
        return Columns(**given, split=split)


@dataclass(frozen=True, kw_only=True)
class RowOptions(TextOptions):
    """Which columns say more of a row; None where there is none."""

    id_column: IdColumn = None
    user_column: UserColumn = None
    group_column: GroupColumn = None


@dataclass(frozen=True, kw_only=True)
class OpeningOptions:
    """How long, and in how much memory, a stranger's directory may take to be opened."""

    open_seconds: OpenSeconds = None
    open_memory: OpenMemory = None

    def limits(self) -> "Limits":
        """Return the limits; UsageError where they are none."""
        from redteam.models.trial import Limits

        given = {"seconds": self.open_seconds, "memory": self.open_memory}
        return Limits(**{name: value for name, value in given.items() if value is not None})


USUAL_LIMITS = OpeningOptions()


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model to train; None leaves what is usual there."""

    model: ModelSpec = None
    layers: Layers = None
    freeze_embeddings: Freeze = False


Swaps = Annotated[
    list[str] | None,
    Opt("--swaps", help="gender, names, or a CSV file of word pairs; can be given several times."),
]
Templates = Annotated[Path | None, Opt("--templates", help="File of templates to ask besides, one a line.")]
Groups = Annotated[
    list[str] | None, Opt("--groups", help="Compare only this group; given several times [default: all].")
]
Positives = Annotated[
    list[str] | None,
    Opt("--positive", help="Label whose rates are compared; can be given several times [default: all, of two one]."),
]
CompareWith = Annotated[
    str | None, Opt("--compare-with", help="Another model of the same encoder: RT504 of both, as a ratio.")
]
Intrinsic = Annotated[
    bool, Opt("--intrinsic", help="Describe what the model's encoder associates with groups (RT505).")
]


@dataclass(frozen=True, kw_only=True)
class FairnessOptions:
    """What is asked about groups."""

    swaps: Swaps = None
    templates: Templates = None
    groups: Groups = None
    positive: Positives = None
    compare_with: CompareWith = None
    intrinsic: Intrinsic = False

    def describes(self, attack: "FairnessAttack") -> bool:
        """Tell whether these options ask for a description, one that runs only where it is asked for."""
        return (attack.compares and self.compare_with is not None) or (attack.intrinsic and self.intrinsic)

    def asked(self, rows: "Examples | None", *, seed: int) -> "Asked":
        """Return the question; without rows our own templates are asked, and genders where nothing else is there."""
        from redteam.auditing.fairness.run import Asked
        from redteam.auditing.fairness.templates import OWN, load_templates

        nothing = rows is None or rows.groups is None or self.templates is not None
        swaps = tuple(self.swaps or ()) or (("gender",) if nothing else ())
        templates = OWN if rows is None else ()
        if self.templates is not None:
            templates = load_templates(self.templates)
        return Asked(swaps, templates, tuple(self.groups or ()), tuple(self.positive or ()), seed)
