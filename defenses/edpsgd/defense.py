"""RD102 edpsgd: differentially private training at nearly the speed of ordinary training.

With clipping "example" (the default), the gradient of every example is clipped exactly, from one forward and one
backward pass and without per-example gradients: norms come from activations and output gradients. Normal noise is
drawn into the gradient buffer before the clipped sums are added to it. Examples are sampled independently
(Poisson), so batches vary and some may be empty; the divisor is a public constant. Batches can be shuffled instead:
they are then accounted as what they are, without amplification.

With clipping "microbatch" it is the mechanism of eDP-SGD (Dupuy et al., ICASSP 2022, arXiv 2107.14586), reconstructed
from its public description: means of micro-batches are clipped layer by layer, and noise decays from epoch to epoch.
Its nominal epsilon is what the noise says, and more is accounted: the sensitivity of a clipped mean is 2C, noise for
one layer does not hide several, and late epochs have less of it.

Noise: `epsilon` chooses the smallest noise whose accounted epsilon (`calibrate_to`: or nominal) meets it;
`noise_multiplier` sets it; 0 with epsilon None trains without noise and without a guarantee. The clip is a constant,
never chosen from private data: with an optimiser that rescales gradients, as AdamW does, its value hardly matters as
long as most examples reach it.

For a loop of your own: `from redteam import PrivateTrainer`.
"""

from dataclasses import dataclass
from typing import Literal

from defenses.accounting import Phase, Release
from defenses.edpsgd.microbatch import Decay, LayerNoise, MicrobatchRule, MicrobatchSteps, Scaling, layers_of
from defenses.edpsgd.noise import NoiseSource
from defenses.edpsgd.plan import TrainingPlan
from defenses.edpsgd.private import PrivateDefense
from defenses.edpsgd.sampling import Sampling, steps_of_a_pass
from defenses.edpsgd.steps import ExampleSteps
from redteam.core import UsageError
from redteam.plugins.defense import Mechanism, Problem
from redteam.plugins.settings import Setting


@dataclass(frozen=True)
class EDPSGD(PrivateDefense):
    """Train privately with exact per-example clipping, or with the paper's clipped micro-batches.

    Besides the settings of every private trainer (`PrivateDefense`); those from `microbatch` on are for clipping
    "microbatch". Of `physical_batch`, a row is a text of 32 tokens. Raises UsageError for values that make no sense.
    """

    id = "RD102"
    name = "edpsgd"

    clipping: Literal["example", "microbatch"] = Setting(
        "What is clipped: each example's gradient, or the means of micro-batches."
    ).default("example")
    sampling: Sampling = Setting("How steps choose rows; shuffled is not amplified.").default("poisson")
    drop_last: bool = Setting("With shuffled: leave out a last batch that is not full.").default(False)
    accounting: Literal["poisson", "shuffled"] | None = Setting(
        "The accounting you expect: refused where it does not hold."
    ).default(None)
    secure_noise: bool = Setting("Cryptographically secure noise, or none at all.").default(False)
    microbatch: int = Setting("With clipping microbatch: rows in one.", "rows", least=1).default(16)
    noise_decay: Decay = Setting("With clipping microbatch: how noise decays by pass.").default("none")
    decay_rate: float = Setting("Of noise_decay, for each pass.", least=0).default(0.05)
    layer_scaling: Scaling = Setting("Clips of layers: all alike, or by their size.").default("none")
    layer_noise: LayerNoise = Setting("Noise of layers: by their own clip, or by all.").default("own")
    calibrate_to: Literal["accounted", "nominal"] = Setting(
        "Which epsilon the noise is chosen for; nominal is for research."
    ).default("accounted")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rule()
        for name, value, known in (
            ("clipping", self.clipping, ("example", "microbatch")),
            ("sampling", self.sampling, ("poisson", "shuffled")),
            ("accounting", self.accounting, (None, "poisson", "shuffled")),
            ("calibrate_to", self.calibrate_to, ("accounted", "nominal")),
        ):
            if value not in known:
                raise UsageError(f"{name} {value!r}: must be one of {', '.join(k for k in known if k)}")
        if self.accounting not in (None, self.sampling):
            raise UsageError(
                f"accounting {self.accounting} does not hold for sampling {self.sampling}: 10,000 shuffled steps at "
                "noise 0.5 spend epsilon 1.95 by Poisson's accounting and at least 10.99 in truth; leave accounting out"
            )

    def source(self, seed: int) -> NoiseSource:
        """Return where noise and batches come from, secure where that was asked for."""
        return NoiseSource(seed, secure=self.secure_noise)

    def plan(self, problem: Problem) -> TrainingPlan:
        """Return what training on `problem` will do, and its epsilon; nothing in it depends on the realised data."""
        batch = self.expected_batch(problem.population)
        rate = batch / problem.population
        a_pass = steps_of_a_pass(rate, problem.population, drop_last=self.drop_last)
        poisson = self.sampling == "poisson"
        steps = max(1, round(self.passes / rate)) if poisson else self.passes * a_pass
        sizes = [sum(p.numel() for p in layer) for layer in layers_of(problem.model)]

        def nominal(sigma: float) -> Release:
            return Release((Phase(sigma, steps),), self.sampling, rate if poisson else 1 / a_pass)

        def accounted(sigma: float) -> Release:
            if self.clipping == "example":
                return nominal(sigma)
            phases = self._rule().phases(sigma, sizes, steps=steps, steps_per_epoch=a_pass)
            return Release(phases, self.sampling, rate if poisson else 1 / a_pass)

        sigma = self.noise_for(accounted if self.calibrate_to == "accounted" else nominal)
        clip = self.clip
        if self.clipping == "microbatch":  # the sum of M means over M, said as a sum over the expected batch
            clip *= batch / self._rule().count(batch)
        mechanism = Mechanism(clip, sigma, rate, steps, self.sampling)
        return TrainingPlan(mechanism, nominal(sigma), accounted(sigma), self.delta, self.runs, self.drop_last)

    def _rule(self) -> MicrobatchRule:
        return MicrobatchRule(
            self.clip, self.microbatch, self.layer_scaling, self.layer_noise, self.noise_decay, self.decay_rate
        )

    def stepper(self, problem: Problem, plan: TrainingPlan, source: NoiseSource) -> ExampleSteps | MicrobatchSteps:
        """Prepare the model for exact clipping, or for clipped micro-batches."""
        batch = self.expected_batch(problem.population)
        if self.clipping == "microbatch":
            return MicrobatchSteps(
                problem.model,
                problem.optimizer,
                source,
                self._rule(),
                noise_multiplier=plan.mechanism.noise_multiplier,
                batch=batch,
                size=problem.size,
                steps_per_epoch=steps_of_a_pass(
                    plan.mechanism.sample_rate, problem.population, drop_last=self.drop_last
                ),
                physical_batch=self.physical_batch,
            )
        return ExampleSteps(
            problem.model,
            problem.optimizer,
            source,
            clip=self.clip,
            noise_multiplier=plan.mechanism.noise_multiplier,
            divisor=batch,
            physical_batch=self.physical_batch,
        )
