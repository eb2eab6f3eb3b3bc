"""Is `verify` right: honest trainers are not called liars, each planted bug is caught."""

import contextlib
from dataclasses import replace

import doubles
import pytest
import torch

from redteam.core import TargetError, UsageError
from redteam.plugins.defense import PrivateRun
from redteam.plugins.registry import choose, discover_defenses
from redteam.report.values import Guarantee
from redteam.verify.run import VerificationPlan, verify
from redteam.verify.subject import DefenseSubject, FunctionSubject

GROSS = VerificationPlan(canaries=1_000, epochs=2)  # what leaves noise away or lets gradients through shows at once
FINE = VerificationPlan(canaries=60_000, epochs=6)  # twice the signal shows on many canaries only
FINER = (
    doubles.HalfTheNoise,
    doubles.MicroBatches,
    doubles.MicroBatchesOfTwo,
    doubles.MicroBatchesOf32,
    doubles.DecayedNoise,
    doubles.TwiceTheData,
    doubles.FixedOrder,
)


@pytest.mark.parametrize(("epsilon", "canaries"), [(1.0, 1_000), (2.0, 1_000), (4.0, 2_000), (8.0, 60_000)])
def test_an_honest_trainer_is_hardly_ever_called_a_liar(epsilon, canaries):
    runs = 10 if canaries <= 2_000 else 2
    plan = VerificationPlan(canaries=canaries, epsilon=epsilon, epochs=2)
    words = [verify(doubles.Honest(), plan, seed=seed).verdict for seed in range(runs)]
    assert words.count("violated") <= 1  # more than 1 of 10 at 1 % happen in 0.4 % of such tests
    assert words.count("inconclusive") == 0


@pytest.mark.parametrize("bug", [bug for bug in doubles.BUGS if bug not in FINER])
def test_a_gross_bug_is_caught_every_time(bug):
    assert {verify(bug(), GROSS, seed=seed).verdict for seed in range(5)} == {"violated"}


@pytest.mark.parametrize("bug", FINER)
def test_a_bug_that_doubles_the_signal_is_caught(bug):
    plan = replace(FINE, canaries=30_000) if bug is doubles.MicroBatchesOf32 else FINE
    result = verify(bug(), plan, seed=1, alpha=0.05)
    assert result.verdict == "violated"
    assert result.clopper_pearson.low > result.accounted.epsilon
    assert (result.family > 1) == bug.__name__.startswith("Micro")


def test_half_the_noise_is_ruled_out_where_few_canaries_show_no_epsilon():
    plan = VerificationPlan(canaries=2_000, epochs=6)
    result = verify(doubles.HalfTheNoise(), plan, seed=1, alpha=0.05)
    assert result.verdict == "violated"
    assert result.clopper_pearson.low <= result.accounted.epsilon < result.subsampled.low
    assert any("Gaussian noise on Poisson samples" in finding for finding in result.findings)
    honest = verify(doubles.Honest(), plan, seed=1, alpha=0.05)
    assert 0.2 * 2.0 < honest.subsampled.low <= honest.accounted.epsilon


def test_the_bounds_come_close_to_what_is_accounted():
    result = verify(doubles.Honest(), VerificationPlan(canaries=100_000, epsilon=4.0, epochs=10), seed=3)
    assert result.verdict == "consistent"
    assert 0.4 * 4.0 < result.clopper_pearson.low < 4.0 < result.clopper_pearson.attainable
    assert 0.75 * 4.0 < result.gdp.low < 4.4


def test_too_few_canaries_settle_nothing():
    result = verify(doubles.Honest(), VerificationPlan(canaries=500, epsilon=8.0, epochs=2), seed=0)
    assert result.verdict == "inconclusive"
    assert result.clopper_pearson.attainable < 8.0
    assert "give more" in result.reason
    assert result.exit_code == 2


def test_what_holds_no_canary_shows_nothing():
    bounds = [verify(doubles.NeverAdded(), VerificationPlan(canaries=5_000, epochs=3), seed=seed) for seed in range(5)]
    assert sum(result.clopper_pearson.low > 0 for result in bounds) <= 2
    assert sum(result.one_run.low > 0 for result in bounds) <= 2


def test_the_same_seed_gives_the_same_numbers():
    plan = VerificationPlan(canaries=2_000, epochs=2)
    first, again, other = (verify(doubles.Honest(), plan, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert first != other


SEEN = {
    doubles.NoiseOnceAnEpoch: "16 of 20 steps get no noise",
    doubles.NoiseUsedAgain: "noise: comes again in steps of a training (correlation +1.00)",
    doubles.NoiseForOneLayer: "layer 2 of 2 gets no noise at any step",
    doubles.DecayedNoise: "the noise is not the same at all steps: the least is 0.3",
    doubles.TwiceTheData: "sampling: steps read rows at rate 0.",
    doubles.FixedOrder: "each step reads the same rows under another seed: the order is predictable, not random",
    doubles.ConstantSeed: "noise: comes again in two trainings with other seeds (correlation +1.00)",
    doubles.HalfTheNoise: "a canary stands out from a step's noise 2.",
}


@pytest.mark.parametrize("bug", SEEN)
def test_what_was_seen_is_said(bug):
    findings = verify(bug(), GROSS, seed=1).findings
    assert any(finding.startswith(SEEN[bug]) for finding in findings), findings


def test_nothing_is_said_of_an_honest_trainer():
    (only,) = verify(doubles.Honest(), VerificationPlan(canaries=20_000, epochs=4), seed=1).findings
    assert only.startswith("the score that told most was")


def trainer(name, **settings):
    return DefenseSubject(choose(discover_defenses(), [name])[0], settings)


@pytest.mark.parametrize("settings", [{}, {"sampling": "shuffled"}, {"secure_noise": True}])
def test_our_own_trainer_is_consistent(settings):
    result = verify(trainer("RD102", **settings), VerificationPlan(canaries=10_000, epochs=4), seed=1, alpha=0.05)
    assert result.verdict == "consistent", result.reason
    assert result.decides == "clopper_pearson"
    assert result.gdp.low > 0.3
    assert len(result.findings) == 1


def test_micro_batches_that_say_what_they_are_are_judged_without_independence():
    result = verify(trainer("RD102", clipping="microbatch"), VerificationPlan(canaries=1_000, epochs=1), seed=1)
    assert result.nominal.epsilon < result.accounted.epsilon
    assert (result.verdict, result.decides) == ("inconclusive", "one_run")
    assert "random micro-batches hide canaries" in result.reason


def test_micro_batches_that_claim_what_they_do_not_account_for_are_never_consistent():
    settings = {"clipping": "microbatch", "layer_noise": "joint", "calibrate_to": "nominal"}

    def as_claimed(problem, told):
        run = trainer("RD102", **settings)(problem, told)
        return PrivateRun(run.mechanism, Guarantee(run.guarantee.nominal, run.guarantee.nominal))

    plan = VerificationPlan(canaries=1_000, epochs=2)
    for subject in (trainer("RD102", **settings), FunctionSubject("as claimed", as_claimed)):
        result = verify(subject, plan, seed=1)
        assert result.verdict != "consistent"
        assert result.exit_code != 0
    first = verify(trainer("RD102", **settings), plan, seed=1).findings[0]
    assert first.startswith("it was asked for epsilon 2, and accounts for")


HIDE = {
    doubles.NeverAdded: "of what the claim admits",
    doubles.RandomMicroBatches: "of what the claim admits",
    doubles.RandomMicroBatchesOfTwo: "of what the claim admits",
    doubles.RandomPairsOfUnits: "of what the claim admits",
}


@pytest.mark.parametrize("hides", HIDE)
def test_who_hides_the_canaries_is_not_called_consistent(hides):
    results = [verify(hides(), GROSS, seed=seed) for seed in range(4)]
    assert all(result.verdict != "consistent" and result.exit_code != 0 for result in results)
    assert sum(HIDE[hides] in result.reason for result in results) >= 3


def closing(problem, settings):
    """Calls step(closure) on gradients without noise, as one does with L-BFGS."""

    def closure():
        problem.optimizer.zero_grad()
        total = problem.losses(torch.arange(problem.size)).sum() / settings.batch_size
        total.backward()
        return float(total.detach())

    class Closing:
        def step(self):
            problem.optimizer.step(closure)

    return doubles.Honest()(replace(problem, optimizer=Closing()), settings)


def test_a_closure_is_seen():
    assert verify(FunctionSubject("closure", closing), GROSS, seed=0).verdict == "violated"


@pytest.mark.parametrize("leaks", [doubles.Leaks, doubles.LeaksAtTheEnd])
def test_weights_changed_past_the_optimiser_are_refused(leaks):
    with pytest.raises(TargetError, match=r"changed the weights outside problem.optimizer.step\(\)"):
        verify(leaks(), GROSS)


def swaps(problem):
    problem.model.first.weight = torch.nn.Parameter(problem.model.first.weight.detach().clone())


def adds_a_buffer(problem):
    problem.model.register_buffer("raw", problem.model.weights.clone())


def edits_the_data(problem):
    problem.model.weights.mul_(0.0)


@pytest.mark.parametrize(("does", "says"), [(swaps, "param"), (adds_a_buffer, "param"), (edits_the_data, "the data")])
def test_what_must_not_change_is_compared_after_training(does, says):
    def trains(problem, settings):
        run = doubles.Honest()(problem, settings)
        does(problem)
        return run

    with pytest.raises(TargetError, match=f"changed .*{says}"):
        verify(FunctionSubject("trainer", trains), GROSS)


def test_a_change_that_was_refused_once_stays_refused():
    """A trainer may swallow the error and put the weights back."""

    def swallows(problem, settings):
        table = problem.model.first.weight
        table.data += 1.0
        with contextlib.suppress(TargetError):
            problem.optimizer.step()
        table.data -= 1.0
        return doubles.Honest()(problem, settings)

    with pytest.raises(TargetError, match="changed the weights"):
        verify(FunctionSubject("swallows", swallows), GROSS)


class SmallParts(doubles.Honest):
    """Asks for the losses of few rows at once, and refuses to take all rows in a step."""

    def __call__(self, problem, settings):
        if settings.batch_size == problem.size:
            raise UsageError("all rows are too many for a step")

        def losses(rows):
            return torch.cat([problem.losses(part) for part in rows.split(16)])

        return super().__call__(replace(problem, losses=losses), settings)


def test_small_parts_without_families_leave_it_open():
    result = verify(SmallParts(), GROSS, seed=0)
    assert result.verdict == "inconclusive"
    assert "at most 16 rows at once" in result.reason


def test_opacus_is_consistent():
    pytest.importorskip("opacus")
    result = verify(trainer("RD101"), VerificationPlan(canaries=1_000, epochs=4), seed=1)
    assert result.verdict == "consistent", result.reason
    told, odd = result.findings
    assert told.startswith("the score that told most was")
    assert odd.startswith("an example without a finite gradient makes updates NaN")
