"""Audit a model when transformers' `Trainer` has trained it, on a split that was drawn at random before.

split = train_test_membership_split(dataset, seed=0)
trainer = Trainer(model, args, train_dataset=split.train.map(tokenise), processing_class=tokenizer)
trainer.add_callback(AuditCallback(trainer, split))
trainer.train()
"""

import hashlib
import logging
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from redteam.auditing.run import audit
from redteam.core import RedteamError, UsageError, one_line
from redteam.core.files import save_atomic, write_atomic
from redteam.data import Columns, Examples, Split, read_examples, text_key
from redteam.data.in_memory import Dataset, open_dataset
from redteam.data.labels import relabel
from redteam.data.ledger import Ledger, Membership, TrainingRecipe, describe_data
from redteam.integrations.judged import Judged, policy_of, settings_for
from redteam.plugins.attack import Attack
from redteam.policy import Policy
from redteam.targets.model import ModelTarget
from redteam.targets.target import label_index
from redteam.training.train import RandomInclusion, draw_sides

_LOGGER = logging.getLogger("redteam.integrations")
_RECIPE = ("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "weight_decay", "seed")


@dataclass(frozen=True)
class MembershipSplit:
    """A dataset whose rows were drawn: `train` to train on, `test` held out, and the draw, for the ledger."""

    dataset: Any
    examples: Examples
    columns: Columns
    drawn: Membership

    @property
    def train(self) -> Any:
        """The members, a dataset of their own."""
        return self.dataset.select(list(self.drawn.members))

    @property
    def test(self) -> Any:
        """The non-members, which no training may see."""
        return self.dataset.select(list(self.drawn.nonmembers))


def train_test_membership_split(
    dataset: Dataset, seed: int, *, holdout: float = 0.5, columns: Columns = Columns()
) -> MembershipSplit:
    """Draw for each text of a `datasets.Dataset`, or each user of it, by itself whether it is trained on.

    Equal texts share a side, and the same `seed` draws the same; `holdout` is the chance to be held out, `columns` say
    where texts, labels and users are, else the usual names do. Raises DataError where a side would be empty.
    """
    open_dataset(dataset)  # a file has no rows to select: train on it with `redteam train`
    reading = read_examples(dataset, columns)
    key = _content(reading.examples)
    inclusion = RandomInclusion(holdout=holdout, seed=seed, key=key)
    unit, sides = draw_sides("the dataset", reading.examples, inclusion, key)
    return MembershipSplit(
        dataset, reading.examples, reading.columns, Membership(True, seed, holdout, 0.0, **sides, key=key, unit=unit)
    )


def _content(examples: Examples) -> str:
    """Return a fingerprint of texts and labels: who does not have the data cannot draw membership again."""
    digest = hashlib.sha256()
    for column in (examples.texts, examples.labels, examples.users):
        for cell in column or ():
            digest.update(hashlib.sha256(cell.encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()


class AuditCallback(TrainerCallback):  # type: ignore[misc]
    """Audits the model at the end of `trainer.train()`, and every `every` epochs, and logs what it finds to `trainer`.

    `policy` is a policy or its file, by default redteam.toml here; `attacks` are all that suit. The ledger, the
    audited rows and the reports go into `folder`, by default OUTPUT_DIR.audit: not into OUTPUT_DIR, which may be
    pushed to a hub. An audit that fails never ends a training: `failure` says why, and `outcome` raises it.
    """

    def __init__(
        self,
        trainer: Any,
        split: MembershipSplit,
        *,
        every: int | None = None,
        policy: Policy | Path | str | None = None,
        attacks: Sequence[Attack] | None = None,
        folder: Path | str | None = None,
        seed: int = 0,
    ) -> None:
        """Check before the training what can be; raise UsageError, and PolicyError for a bad policy."""
        _check(trainer, split, every)
        self._trainer, self._split, self._every, self._attacks = trainer, split, every, attacks
        self._policy = policy_of(policy)
        self._settings = settings_for(self._policy, seed)
        output = Path(trainer.args.output_dir)
        self.folder = output.with_name(f"{output.name}.audit") if folder is None else Path(folder)
        self.salt = secrets.token_hex(16)
        self.failure: BaseException | None = None
        self._judged: Judged | None = None

    @property
    def ledger(self) -> Path:
        """Where it is written who was trained on: `redteam audit DIRECTORY --ledger` takes it."""
        return self.folder / "ledger.json"

    @property
    def outcome(self) -> Judged:
        """The last audit, judged; UsageError before the first, and what went wrong where the last one failed."""
        if self.failure is not None:
            raise self.failure
        if self._judged is None:
            raise UsageError("nothing was audited yet: the audit runs at the end of trainer.train()")
        return self._judged

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Write the rows that are audited: what cannot be written is known before the training."""
        if state.is_world_process_zero:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            named = {name for name in asdict(self._split.columns).values() if name}
            rows = self._split.dataset.select_columns([n for n in self._split.dataset.column_names if n in named])
            save_atomic(self.folder / "rows.parquet", lambda path: rows.to_parquet(str(path)), mode=0o600)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Audit after every so many epochs, but not after the last, which the end of the training audits."""
        epoch = round(state.epoch)
        if self._every and epoch % self._every == 0 and epoch < args.num_train_epochs:
            self._try(f"epoch-{epoch}", state)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Audit what was trained; with `load_best_model_at_end` that is the best model."""
        self._try("final", state)

    def _try(self, when: str, state: Any) -> None:
        """Audit on the first process; whatever goes wrong is kept, and no older outcome is left to stand for it."""
        if not state.is_world_process_zero:
            return
        self._judged = self.failure = None
        try:
            with torch.random.fork_rng():  # a training that is audited on its way goes on as if it were not
                self._judged = self._audit(when)
        except Exception as error:
            self.failure = error if isinstance(error, RedteamError) else RedteamError(one_line(error))
            _LOGGER.error("redteam: the audit failed, so nothing is known of leaks: %s", one_line(error))
            return
        self._trainer.log({f"audit/{name}": value for name, value in self._judged.numbers().items()})
        _LOGGER.warning("redteam: %s: %s", when, self._judged.summary)

    def _audit(self, when: str) -> Judged:
        target = _saved(self._trainer, Path(self._trainer.args.output_dir).name or "model")
        ledger = self._write_ledger(target)
        split, _ = ledger.split(self.ledger)
        split = _in_words_of(target, split)
        report = audit(target, split, self._attacks, settings=self._settings)
        judged = Judged.of(report, self._policy)
        for form, ending in (("json", "json"), ("html", "html")):
            write_atomic(self.folder / f"{when}.{ending}", judged.render(form))
        return judged

    def _write_ledger(self, target: ModelTarget) -> Ledger:
        args, split = self._trainer.args, self._split
        rows = self.folder / "rows.parquet"
        recipe = {name: value for name in _RECIPE if isinstance(value := getattr(args, name, None), int | float)}
        assert target.digest is not None  # a model has one
        ledger = Ledger(
            model=target.digest,
            data=describe_data(rows, split.columns, len(split.dataset), beside=self.ledger),
            membership=split.drawn,
            recipe=TrainingRecipe("transformers.Trainer", recipe, int(args.seed)),
            guarantee=None,
            salt=self.salt,
        )
        ledger.save(self.ledger)
        return ledger


def _check(trainer: Any, split: MembershipSplit, every: int | None) -> None:
    """Raise UsageError for what would make the audit one of something else, or impossible."""
    if every is not None and every < 1:
        raise UsageError(f"every={every}: must be 1 or more epochs")
    if getattr(trainer, "processing_class", None) is None:
        raise UsageError("the Trainer has no tokenizer: give it as processing_class, so that texts are read as trained")
    if getattr(trainer, "is_fsdp_enabled", False) or getattr(trainer, "is_deepspeed_enabled", False):
        raise UsageError("the weights are spread over processes: save the model and run redteam audit on it")
    rows, members = trainer.train_dataset, len(split.drawn.members)
    if rows is None or not hasattr(rows, "__len__") or len(rows) != members:
        found = "no rows that can be counted" if not hasattr(rows, "__len__") else f"{len(rows):,} rows"
        raise UsageError(f"train_dataset has {found} and split.train {members:,}: train on split.train, all of it")
    text = split.columns.text
    if text in getattr(rows, "column_names", ()):
        known = {text_key(each) for each in split.examples.of_rows(split.drawn.members).texts or ()}
        if {text_key(each) for each in rows[text]} != known:
            raise UsageError(f"the texts of train_dataset, column {text!r}, are not those of split.train: train on it")


def _saved(trainer: Any, name: str) -> ModelTarget:
    """Return the model as it would be opened once it is saved: so its digest is that of the saved one."""
    with tempfile.TemporaryDirectory(prefix="redteam.") as scratch:
        folder = Path(scratch) / name
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder)
        trainer.processing_class.save_pretrained(folder)
        return ModelTarget.load(folder)


def _in_words_of(target: ModelTarget, split: Split) -> Split:
    """Return the split with its labels as the model calls them."""
    return relabel(split, label_index(target.labels), target.labels)[0]
