"""RD403 distilled language model: a smaller model learns the next words of a teacher, and not what it makes of a group.

By `redteam distil TEACHER TEXTS --task lm`, of any causal language model of Hugging Face (Gupta et al., Findings of ACL
2022, arXiv 2203.12574). For each position of a text and of its role-reversed text the teacher gives its probabilities
of the next token. With `--counterfactual mean`, `max` or `expert` the student learns their mean, their largest or their
geometric mean, each normalised; with `--role-reversed` it reads the reversed text besides. Either can be had alone:
reversed texts with the teacher's own probabilities are plain augmentation.

What the teacher says of the reversed text is read with the groups exchanged back: where it gives `he` a probability,
that is for `she` (`her` and `his` stand for each other, words of several tokens for themselves), so that also the
pronoun after a profession is evened out, whose context is the same in both versions.

Positions of a text and its reversal must be the same for that, so that texts whose two versions have another number of
tokens are learned as the teacher says them, and are counted. The student starts from the teacher's embeddings and first
layers. Less polarity of what it writes need not make a classifier on top of it fairer (the paper found none): measure
that one by itself, with redteam fairness. What a teacher overfitted a student may repeat. It guarantees nothing.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from redteam.auditing.fairness.swaps import load_swaps, swapped_texts
from redteam.core import BundleError, DataError, RedteamError, first_line
from redteam.models.configs import quiet
from redteam.models.contained import check_contained
from redteam.plugins.defense import Checkpoint, Progress
from redteam.plugins.settings import Setting
from redteam.training.checkpoint import TrainingState

How = Literal["none", "mean", "max", "expert"]
_TINY = 1e-12
_OF_OTHER_CASES = {("her", "him"), ("hers", "his")}  # her and his are exchanged: one token stands for one other
Row = tuple[list[int], list[int]]  # the tokens of a text and of its reversal, which are its own where it has none


@dataclass(frozen=True)
class Opened:
    """A language model with its tokenizer."""

    model: Any
    tokenizer: Any


def open_language_model(path: Path) -> Opened:
    """Open a causal language model of a Hugging Face directory; BundleError where it is none."""
    if not (path / "config.json").is_file():
        raise BundleError(f"{path}: no directory of a Hugging Face model (config.json); --task lm takes one")
    check_contained(path)
    how = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(path, **how)
            tokenizer = AutoTokenizer.from_pretrained(path, **how)
    except Exception as error:  # each architecture has its own
        raise BundleError(f"{path}: no causal language model ({first_line(error)})") from None
    return Opened(model.float().eval(), tokenizer)


def save_language_model(model: Any, tokenizer: Any, output: Path) -> None:
    """Write a directory of Hugging Face, which is there as a whole or not at all."""
    part = output.with_name(f".{output.name}.part")
    with quiet():
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    part.replace(output)


def student_of(teacher: Opened, layers: int | None, seed: int) -> Any:
    """Return a student with the teacher's embeddings and its first `layers`, by default half of them."""
    config = copy.deepcopy(teacher.model.config)
    name = next((each for each in ("n_layer", "num_hidden_layers", "num_layers") if hasattr(config, each)), None)
    if name is None:
        raise BundleError(f"{type(teacher.model).__name__}: how many layers it has is not known")
    most = int(getattr(config, name))
    if layers is not None and layers > most:
        raise BundleError(f"--layers {layers}: the teacher has {most}")
    setattr(config, name, layers or max(1, most // 2))
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: getattr(config, name)]
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        student = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config.to_dict()))
    student.load_state_dict(teacher.model.state_dict(), strict=False)
    return student.float()


@dataclass(frozen=True)
class DistilledLanguage:
    """Train a language model on the next-token probabilities of another."""

    id = "lm"  # of its settings, on the command line

    how: Literal["none", "mean", "max", "expert"] = Setting(
        "What is learned of a text and its reversal: same as --counterfactual."
    ).default("none")
    role_reversed: bool = Setting("Read reversed texts besides: same as --role-reversed.").default(False)
    epochs: int = Setting("Passes over the texts.", "passes", least=1).default(3)
    batch_size: int = Setting("Texts in one step.", "texts", least=1).default(16)
    learning_rate: float = Setting("AdamW's, at its peak.", above=0).default(5e-4)
    max_length: int = Setting("Texts are cut at so many tokens.", "tokens", least=2).default(64)

    def rows(self, teacher: Opened, texts: Sequence[str], swaps: str) -> tuple[list[Row], int, int]:
        """Return the tokens of texts and reversals, how many have one, and how many of these cannot be aligned.

        Raises DataError where the list changes no text, or none is long enough to have a next token.
        """
        wanted = self.how != "none" or self.role_reversed
        turned = swapped_texts(list(texts), swaps) if wanted else list(texts)
        changed = [a != b for a, b in zip(texts, turned, strict=True)]
        if wanted and not any(changed):
            raise DataError(f"swap list {swaps}: none of {len(texts):,} texts has a swap: give a list that they hold")
        both = [self._tokens(teacher, each) for each in (texts, turned)]
        rows, unlike = list[Row](), 0
        for own, other, differs in zip(*both, changed, strict=True):
            unlike += differs and len(own) != len(other)
            if len(own) > 1:
                rows.append((own, other if len(own) == len(other) else own))
        if not rows:
            raise DataError("no text has two tokens, and a language model learns the next one")
        return rows, sum(changed), unlike

    def _tokens(self, teacher: Opened, texts: Sequence[str]) -> list[list[int]]:
        end = teacher.tokenizer.eos_token_id
        found = [teacher.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return [[*ids[: self.max_length - 1], *([] if end is None else [end])] for ids in found]

    def fit(
        self,
        teacher: Opened,
        student: Any,
        rows: Sequence[Row],
        *,
        swaps: str,
        seed: int,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Train the student in place; RedteamError where the loss is no number."""
        student.train()
        back = exchanged_tokens(teacher, swaps)
        order = _order(len(rows), self.batch_size, self.epochs, seed)
        optimizer = torch.optim.AdamW(student.parameters(), lr=self.learning_rate)
        state = TrainingState(student, optimizer, checkpoint)
        for step in state.steps(state.resume(), len(order), lambda _: None):
            torch.manual_seed((seed * 1_000_003 + step) % 2**63)
            loss = self._loss(teacher, student, [rows[i] for i in order[step]], back)
            if not math.isfinite(loss.item()):
                raise RedteamError(
                    f"loss is {loss.item()} at step {step + 1}: try a learning_rate of {self.learning_rate / 10:g}"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * (1 - step / len(order))
            optimizer.step()
            optimizer.zero_grad()
            if progress is not None:
                progress(step + 1, len(order), loss.item())
        student.eval()

    def _loss(self, teacher: Opened, student: Any, rows: Sequence[Row], back: torch.Tensor) -> torch.Tensor:
        ids, mask = _padded([own for own, _ in rows])
        turned, _ = _padded([other for _, other in rows])
        with torch.no_grad():
            p, q = (
                torch.softmax(teacher.model(input_ids=each, attention_mask=mask).logits, -1) for each in (ids, turned)
            )
        seen = [(ids, combined(p, q[..., back], self.how))]
        seen += [(turned, combined(q, p[..., back], self.how))] if self.role_reversed else []
        count = mask[:, 1:].sum()
        losses = []
        for each, aims in seen:
            logs = torch.log_softmax(student(input_ids=each, attention_mask=mask).logits, -1)
            losses.append((-(aims * logs).sum(-1)[:, :-1] * mask[:, 1:]).sum() / count)
        return torch.stack(losses).mean()


def exchanged_tokens(teacher: Opened, swaps: str) -> torch.Tensor:
    """Return for each token that which stands for it where groups are exchanged, [vocabulary]; itself mostly."""
    found = torch.arange(teacher.model.get_output_embeddings().weight.shape[0])
    for pair in load_swaps(swaps).pairs:
        for form in ("{}", " {}") if pair not in _OF_OTHER_CASES else ():
            for cased in (str.lower, str.capitalize):
                ids = [
                    teacher.tokenizer(form.format(cased(word)), add_special_tokens=False)["input_ids"] for word in pair
                ]
                one, other = (int(each[0]) if len(each) == 1 else -1 for each in ids)
                if one != other and min(one, other) >= 0 and found[one] == one and found[other] == other:
                    found[one], found[other] = other, one
    return found


def combined(own: torch.Tensor, other: torch.Tensor, how: How) -> torch.Tensor:
    """Return what the student learns of the teacher's probabilities of a text and of its reversal, [..., words]."""
    if how == "none":
        return own
    if how == "mean":
        return (own + other) / 2
    both = torch.maximum(own, other) if how == "max" else (own.clamp_min(_TINY) * other.clamp_min(_TINY)).sqrt()
    return both / both.sum(dim=-1, keepdim=True)


def _padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *([0] * (longest - len(row)))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def _order(rows: int, size: int, passes: int, seed: int) -> list[list[int]]:
    make = torch.Generator().manual_seed(seed)
    shuffled: Callable[[], torch.Tensor] = lambda: torch.randperm(rows, generator=make)  # noqa: E731
    return [part.tolist() for _ in range(passes) for part in torch.split(shuffled(), size)]
