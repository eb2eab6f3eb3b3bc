"""What an audit would do and could show, worked out without scoring a single example.

An endpoint or a function is asked for one harmless text when it is opened, to learn what it answers with.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from redteam.auditing.besides import Besides
from redteam.auditing.breakdown import accuracy_by_user
from redteam.auditing.epsilon import Canaries, fair_canaries
from redteam.auditing.family import Family, make_family
from redteam.auditing.grading import Looked, look
from redteam.auditing.keeping import AS_HOPED, not_kept
from redteam.auditing.settings import AuditSettings
from redteam.canary.evidence import CanaryAudit
from redteam.canary.run import repeated
from redteam.data import Split
from redteam.models.encoder import hashed_ngrams
from redteam.plugins.attack import Attack
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import ExtractionAttack
from redteam.plugins.reconstruction import ReconstructionAttack
from redteam.plugins.reference_scores import ReferenceScores
from redteam.plugins.registry import discover_controls
from redteam.policy import Policy, with_unset
from redteam.report import LOW_BOUND, Limit, Sample, plural
from redteam.report.metrics import metric
from redteam.report.values import Guarantee, UserAccuracy
from redteam.statistics import attainable_epsilon, fewest_right, least_share, smallest_resolvable_fpr
from redteam.targets.target import Access, Target, labels_of

_OVERHEAD = 2.0  # a forward pass takes so many times its matrix products: softmax, norms, gathers (MiniLM, measured)
_CONTROL_SECONDS = 1.5e-4  # per text that the blind baseline looks at
_CONTROL_MOST = 50_000


@dataclass(frozen=True)
class AuditPlan:
    """The plan of an audit, ready to print; `seconds` is None where it depends on somebody else's machine."""

    lines: tuple[str, ...]
    seconds: float | None

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines)


def make_plan(
    target: Target,
    split: Split,
    attacks: Sequence[Attack],
    policy: Policy,
    settings: AuditSettings,
    *,
    guarantee: Guarantee | None = None,
    planted: CanaryAudit | None = None,
    references: int = 0,
    gradients: bool = False,
    besides: Besides | None = None,
) -> AuditPlan:
    """Say which attacks would run with so many `references`, perhaps with their `gradients`, and what they resolve."""
    looked = look(split, [control for control in discover_controls() if control.reads_labels], seed=settings.seed)
    split, is_member = looked.split, looked.units.is_member
    members, nonmembers = int(is_member.sum()), int((~is_member).sum())
    canaries = fair_canaries(split, is_member, guarantee, seed=settings.seed)
    context = _foreseen(split, settings, references, gradients=gradients)
    able = [attack for attack in attacks if attack.applies(target.access, context) is None]
    others = besides or Besides()
    family = _family(able, settings, split, canaries, guarantee, _besides(target, settings, planted, others, guarantee))
    each = family.of_members
    limits = policy.limits if planted is None else with_unset(policy.limits)
    randomised = (canaries.members, canaries.nonmembers, canaries.delta) if isinstance(canaries, Canaries) else None
    shown = None if planted is None else planted.attainable(target.access, each=family.of_canaries)
    sample = Sample(members, nonmembers, each, randomised, shown)
    seconds = estimate_seconds(target, split)
    lines = [
        f"target     {target.name} ({target.kind}, {target.access.word}), {len(labels_of(target))} labels",
        _example_line(split),
        *_user_line(split),
        f"membership {'drawn at random (grade A)' if split.randomised else 'a split (grade B at best)'}",
        *_label_line(looked),
        *_canary_line(planted, target.access, family.of_canaries),
        *(_attack_line(attack, attack.applies(target.access, context)) for attack in attacks),
        *_planted_lines(planted, target.access),
        *(f"canaries   {line}" for line in (() if others.labels is None else others.labels.foreseen(family.level))),
        *(_attack_line(attack, None) for attack in (() if others.released is None else others.released.attacks)),
        *(() if others.fairness is None else others.fairness.foreseen(target, policy.limits)),
        f"error      {settings.alpha:g} in all, up to {each:.2g} for a number; {_primary(family)}",
        f"resolution smallest FPR {smallest_resolvable_fpr(nonmembers, alpha=each):.2g}",
        *_accuracy_line(target, split, policy),
        *_epsilon_line(canaries, each),
        *_limit_lines(limits, sample, not_kept(able, family.primary, context, AS_HOPED)),
        _time_line(seconds, target, split, planted),
    ]  # fmt: skip
    return AuditPlan(tuple(lines), seconds)


def _besides(
    target: Target,
    settings: AuditSettings,
    planted: CanaryAudit | None,
    others: Besides,
    guarantee: Guarantee | None,
) -> dict[str, tuple[str, ...]]:
    """Return the ids of what canaries and all that is measured beside membership give, judged and described."""
    judged, described = others.planned(target, settings, claimed=guarantee is not None)
    canaries = () if planted is None else planted.planned(target.access)
    return {"planted": (*canaries, *judged), "described": described}


def _family(
    able: Sequence[Attack],
    settings: AuditSettings,
    split: Split,
    canaries: Canaries | str,
    guarantee: Guarantee | None,
    besides: dict[str, tuple[str, ...]],
) -> Family:
    measured, claimed = isinstance(canaries, Canaries), guarantee is not None
    return make_family(able, settings, epsilon=measured, claimed=claimed, unit=split.unit, **besides)


def _example_line(split: Split) -> str:
    left_out = f"{split.moved_out} texts on both sides moved out, {split.duplicates} repeats dropped"
    return f"examples   {len(split.members):,} members, {len(split.nonmembers):,} non-members ({left_out})"


def _time_line(seconds: float | None, target: Target, split: Split, planted: CanaryAudit | None) -> str:
    """Say how long scoring takes, or how many requests where that is not this machine's affair."""
    besides = "" if planted is None else "; besides that of the attacks after canaries"
    takes = _requests(target, split) if seconds is None else f"about {max(1, round(seconds))} s"
    return f"time       {takes}{besides}"


def _limit_lines(limits: Sequence[Limit], sample: Sample, weak: Mapping[str, str]) -> Iterator[str]:
    """Say whether each limit could be proven broken, and by `weak` why one would not be kept where it is not."""
    for limit in limits:
        why = weak.get(limit.metric)
        kept = "" if why is None else f"; cannot be kept: {why}"
        yield f"limit      {limit.name}: {metric(limit.metric).prospect(limit, sample)}{kept}"


def _planted_lines(planted: CanaryAudit | None, access: Access) -> tuple[str, ...]:
    """Say which attacks after canaries would run, and which would be spared."""
    if planted is None:
        return ()
    return (
        *(_attack_line(attack, access.lacking(attack.needs)) for attack in planted.attacks),
        *(f"{spared.attack}      not run: {spared.reason}" for spared in planted.spared),
    )


def _primary(family: Family) -> str:
    return f"limits are settled by {family.primary}" if family.primary else "no membership attack applies"


def _label_line(looked: Looked) -> tuple[str, ...]:
    """Say what the labels alone will do to the sides: match them, or have them refused."""
    if looked.grade == "C":
        return (f"labels     REFUSED: {looked.reason}: exit 2",)
    return (f"labels     {looked.matched.removeprefix('; ')}",) if looked.matched else ()


def _accuracy_line(target: Target, split: Split, policy: Policy) -> tuple[str, ...]:
    """Say how often the target must be right for its silence to count."""
    labels, of = split.members.labels, len(split.members)
    if labels is None or Access.LABELS not in target.access or policy.allow_untrained:
        return ()
    commonest = max(Counter(labels).values()) / of
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    own = np.array([number[label] for label in labels])
    by_user = accuracy_by_user(np.ones(of, dtype=np.bool_), own, split.members.users)
    if by_user is not None:
        return (_accuracy_of_users(by_user),)
    enough = fewest_right(of, commonest)
    if enough is None:
        return (f"accuracy   CANNOT show that the target has learned anything: {commonest:.0%} have one label: exit 2",)
    return (
        f"accuracy   at least {enough:,} of {of:,} members must be right (commonest label {commonest:.1%}), or exit 2",
    )


def _accuracy_of_users(seen: UserAccuracy) -> str:
    share, users = least_share(seen.users, seen.commonest), plural(seen.users, "member user")
    if share is None:
        return f"accuracy   CANNOT show that the target has learned anything: {users} are too few: exit 2"
    return (
        f"accuracy   about {share:.0%} of the rows of each of {users} must be right (commonest label "
        f"{seen.commonest:.1%}), or exit 2"
    )


def _user_line(split: Split) -> tuple[str, ...]:
    users = split.users
    if users is None:
        return ()
    if split.unit == "user":
        return (
            f"users      {users.members:,} members, {users.nonmembers:,} non-members, each measured by all rows"
            f" ({users.both:,} on both sides moved out)",
        )
    judged = "rows are measured, and nothing for a user" if users.most > 1 else "with one row each"
    return (f"users      {users.members + users.nonmembers + users.both:,}, {users.both:,} on both sides: {judged}",)


def _canary_line(planted: CanaryAudit | None, access: Access, each: float) -> tuple[str, ...]:
    if planted is None:
        return ()
    copies = ", ".join(f"{count} of {copies} copies" for copies, count in _sizes(planted).items())
    fewest = planted.fewest(access, each=each)
    return (f"canaries   {copies}; at least {fewest} of each number of copies can prove that secrets are extracted",)


def _sizes(planted: CanaryAudit) -> dict[int, int]:
    """Return how many canaries there are of each number of repetitions."""
    canaries = planted.planting.canaries
    return {copies: sum(c.repetitions == copies for c in canaries) for copies in repeated(planted.planting)}


def _attack_line(attack: Attack | ExtractionAttack | ReconstructionAttack, stopped: str | None) -> str:
    return f"{attack.id}      {attack.name}: {'runs' if stopped is None else f'cannot run: {stopped}'}"


def _foreseen(split: Split, settings: AuditSettings, references: int, *, gradients: bool) -> AttackContext:
    """Return what attacks will be given, as far as their asking for it goes: nothing is opened or trained for it."""
    nothing, alone = np.zeros((references, 0)), (-1,) * references
    norms = np.zeros((references, 1, 0)) if gradients else None
    some = ReferenceScores(nothing, nothing.astype(np.bool_), alone, gradients=norms) if references else None
    return AttackContext(
        settings.seed,
        encoder=hashed_ngrams(),
        reference_scores=some,
        nonmembers=split.reference,
    )


def _epsilon_line(canaries: Canaries | str, each: float) -> tuple[str, ...]:
    if isinstance(canaries, str):
        return (f"epsilon    not measured: {canaries}",)
    most = attainable_epsilon(canaries.members, canaries.nonmembers, alpha=each, delta=canaries.delta)
    those = f"{canaries.members:,} and {canaries.nonmembers:,} canaries of fair inclusion"
    return (f"epsilon    at delta {canaries.delta:g}: {those} can show up to {most:.2f}. {LOW_BOUND}",)


def _requests(target: Target, split: Split) -> str:
    batch = int(getattr(target, "batch_size", 1))
    rows = len(split.members) + len(split.nonmembers)
    return f"{-(-rows // batch):,} requests of up to {batch} texts; how long each takes is the target's affair"


def estimate_seconds(target: Target, split: Split) -> float | None:
    """Estimate the time of an audit from the tokens, the weights and the speed of this machine's matrix product.

    None where answers come from elsewhere; zero scoring for saved scores.
    """
    rows = len(split.members) + len(split.nonmembers)
    control = 0.0 if split.members.texts is None else _CONTROL_SECONDS * min(rows, _CONTROL_MOST)
    if target.kind == "scores":
        return control + 1e-6 * rows
    if not hasattr(target, "model") or not hasattr(target, "tokenizer"):
        return None
    texts = [*(split.members.texts or ()), *(split.nonmembers.texts or ())]
    sample = texts[:: max(1, len(texts) // 2000)]
    tokens = sum(len(e.ids) for e in target.tokenizer.encode_batch_fast(sample)) * len(texts) / max(1, len(sample))
    table = target.model.get_input_embeddings().weight.numel()
    weights = sum(p.numel() for p in target.model.parameters()) - table
    return float(control + _OVERHEAD * tokens * weights / _multiplications_per_second())


def _multiplications_per_second() -> float:
    """Time a matrix product of the size of a small encoder's for some 50 ms."""
    import torch

    a, b = torch.ones(2048, 384), torch.ones(384, 384)
    torch.mm(a, b)
    times = []
    for _ in range(10):
        started = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - started)
    return a.shape[0] * b.numel() / float(np.median(times))
