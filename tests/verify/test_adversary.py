"""The parts of `verify` against naive twins: gradients, scores, what a calibration run teaches, and signal checks."""

import doubles
import numpy as np
import pytest
import torch

from redteam.core import TargetError, UsageError
from redteam.verify.adversary import Adversary, Claim, _mixed
from redteam.verify.calibration import Calibration, CalibrationRun
from redteam.verify.dirac_canaries import Design, problem
from redteam.verify.evidence import Rule, choose, shown
from redteam.verify.run import VerificationPlan, verify
from redteam.verify.signal_check import check_signal


def posed(design, included, *, clip=1.0, read=lambda rows: None, observe=lambda gradients: None):
    return problem(design, included, clip=clip, read=read, observe=observe)


def clipped_by_loop(given, groups, clip):
    """The sum of the clipped mean gradients of groups of rows, one backward pass a group."""
    total = [torch.zeros(len(p)) for p in given.model.parameters()]
    for group in groups:
        given.model.zero_grad()
        given.losses(torch.tensor(group)).mean().backward()
        gradients = [p.grad.reshape(-1) for p in given.model.parameters()]
        norm = torch.cat(gradients).norm()
        for part, gradient in zip(total, gradients, strict=True):
            part += gradient * min(1.0, clip / max(float(norm), 1e-30))
    return [part.numpy() for part in total]


@pytest.mark.parametrize("family", [1, 4])
def test_the_doubles_clip_as_a_loop_of_one_does(family):
    design = Design(10, family)
    given = posed(design, design.sample_inclusion(np.random.default_rng(0)), clip=0.7)
    rows = np.arange(0, design.size, 2)
    trainer = doubles.Honest()
    trainer.clip = 0.7
    expected = clipped_by_loop(given, [[int(row)] for row in rows], 0.7)
    for found, wanted in zip(trainer.sums(given.model, rows), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("b", "family"), [(8, 8), (2, 8), (32, 64), (4, 1)])
def test_micro_batches_clip_means(b, family):
    design = Design(8, family)
    given = posed(design, design.sample_inclusion(np.random.default_rng(1)))
    trainer = doubles.MicroBatches()
    trainer.clip, trainer.b = 1.0, b
    rows = np.arange(design.size)
    expected = clipped_by_loop(given, [rows[i : i + b].tolist() for i in range(0, len(rows), b)], 1.0)
    for found, wanted in zip(trainer.sums(given.model, rows), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(("double", "b", "moves"), [(doubles.Honest, 1, 1.0), (doubles.MicroBatches, 8, 2.0)])
def test_a_canary_with_companions_moves_clipped_means_twice_as_far(double, b, moves):
    """Out of line by a factor of two where means are clipped, by nothing where rows are."""
    design, sums = Design(1, 8), []
    for included in (False, True):
        trainer = double()
        trainer.clip = 1.0
        sums.append(trainer.sums(posed(design, np.array([included])).model, np.arange(8)))
    distance = np.sqrt(sum((new - old) ** 2 for old, new in zip(*sums, strict=True)).sum())
    assert distance == pytest.approx(moves, rel=1e-5)


def test_every_row_has_a_gradient_far_above_the_clip_or_none_at_all():
    included = np.array([True, False, True])
    for family in (1, 8, 64):
        weights = Design(3, family).weights(included, 0.5).reshape(3, family)
        assert np.all((weights == 0) | (np.abs(weights) >= 5.0))
        assert np.array_equal(weights[:, 0] > 0, included)
        assert np.all(weights[:, 1:] < 0)


def test_the_mixture_is_the_log_of_the_mean_likelihood_ratio():
    ratio = np.array([-700.0, -3.0, 0.0, 1e-3, 5.0, 80.0, 3000.0], dtype=np.float32)
    with np.errstate(over="ignore"):
        expected = np.logaddexp(np.log(0.75), np.log(0.25) + ratio.astype(np.float64))
    np.testing.assert_allclose(_mixed(ratio, 0.25), expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(_mixed(ratio, 1.0), ratio)


def watched(design, included, *, steps=6, rate=0.5, seed=0, deviation=(0.3, 0.6), repeat=False):
    """Updates of a Poisson-sampled Gaussian mechanism with known signal (1 and 2) and noise, and the rows read."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        rows = np.flatnonzero(np.random.default_rng(step if repeat else [seed, step]).random(design.canaries) < rate)
        entries = np.zeros(design.entries, dtype=np.float32)
        entries[rows] = included[rows]
        noises = [rng.normal(0, s, design.entries).astype(np.float32) for s in deviation]
        yield rows, [entries * (1 + layer) + noise for layer, noise in enumerate(noises)]


def calibration(design, **options):
    included = design.sample_inclusion(np.random.default_rng(9))
    run_before = CalibrationRun(design, included)
    for rows, gradients in watched(design, included, **options):
        run_before.reader.read(rows)
        run_before.observe(gradients)
    return run_before.learned()


def test_a_calibration_run_teaches_signal_noise_and_rate():
    learned = calibration(Design(20_000), steps=10)
    np.testing.assert_allclose(learned.signal, np.tile([1.0, 2.0], (10, 1)), rtol=0.03)
    np.testing.assert_allclose(learned.noise, np.tile([0.3, 0.6], (10, 1)), rtol=0.08)
    np.testing.assert_allclose(learned.offset, 0.0, atol=0.05)
    assert learned.rate == pytest.approx(0.5, rel=0.02)
    assert learned.strength == pytest.approx(np.hypot(1 / 0.3, 2 / 0.6), rel=0.05)


def test_a_likelihood_ratio_is_that_of_the_naive_sum():
    design, steps = Design(50), 4
    included = design.sample_inclusion(np.random.default_rng(1))
    known = Calibration(
        signal=np.tile([1.0, 2.0], (steps, 1)),
        offset=np.zeros((steps, 2)),
        noise=np.ones((steps, 2)),
        rate=0.5,
        taken=np.zeros((steps, 7), dtype=np.uint8),
        total=np.zeros(50),
    )
    adversary, expected = Adversary(design, known, Claim(1.0, 0.5)), np.zeros(50)
    for rows, gradients in watched(design, included, steps=steps, seed=3):
        adversary.reader.read(rows)
        adversary.observe([gradient.copy() for gradient in gradients])
        log_in, log_out = np.zeros(50), np.zeros(50)
        for layer, gradient in enumerate(gradients):
            blanks = gradient[50:].astype(np.float64)
            z, deviation = gradient[:50] - blanks.mean(), blanks.std()
            log_in += -((z - 1 - layer) ** 2) / (2 * deviation**2)
            log_out += -(z**2) / (2 * deviation**2)
        expected += np.log(0.5 + 0.5 * np.exp(log_in - log_out))
    np.testing.assert_allclose(adversary.scores()["likelihood, as calibrated"], expected, rtol=1e-3, atol=1e-3)


def test_scores_of_repeated_rows_use_only_the_steps_that_read_them():
    design = Design(400)
    known = calibration(design, steps=8, rate=0.25, seed=1, repeat=True, deviation=(2.0, 4.0))
    included = design.sample_inclusion(np.random.default_rng(2))
    adversary = Adversary(design, known, Claim(0.5, 0.25))
    for rows, gradients in watched(design, included, steps=8, rate=0.25, seed=2, repeat=True, deviation=(2.0, 4.0)):
        adversary.reader.read(rows)
        adversary.observe(gradients)
    scores = adversary.scores()

    def apart(values):
        return (values[included].mean() - values[~included].mean()) / values.std()

    assert apart(scores["calibrated order"]) > 1.2 * apart(scores["likelihood, as calibrated"])


def test_a_training_without_signal_is_scored_and_finite():
    design = Design(300)
    run_before = CalibrationRun(design, design.sample_inclusion(np.random.default_rng(0)))
    run_before.observe([np.zeros(design.entries, dtype=np.float32)] * 2)
    adversary = Adversary(design, run_before.learned(), Claim(30.0, 0.5))
    adversary.observe([np.zeros(design.entries, dtype=np.float32)] * 2)
    assert all(np.isfinite(values).all() for values in adversary.scores().values())


def test_rules_are_chosen_on_one_training_and_judged_on_another():
    rng = np.random.default_rng(0)
    included, others = rng.random((2, 4_000)) < 0.5
    known = {"noise": rng.normal(size=4_000), "signal": rng.normal(size=4_000) + 2 * included}
    rules = choose(known, included, delta=1e-5, alpha=0.05)
    assert rules.clopper_pearson.score == rules.gdp.score == "signal"
    fresh = {"noise": rng.normal(size=4_000), "signal": rng.normal(size=4_000) + 2 * others}
    bounds = shown(fresh, others, rules, delta=1e-5, alpha=0.05)
    tp, n_in, fp, n_out = rules.clopper_pearson.counts(fresh, others)
    assert (n_in, n_out) == (others.sum(), 4_000 - others.sum())
    assert 0 < bounds.clopper_pearson.low < np.log((tp / n_in - 1e-5) / (fp / n_out))
    assert 1.5 < bounds.gdp.low < 11.0  # mu is 2


def test_bounds_are_wrong_at_most_alpha_of_the_time_where_every_bit_of_epsilon_shows():
    """Randomised response reaches its epsilon at once, so nothing is lost that could hide a bound that is too high."""
    rng, epsilon, above = np.random.default_rng(0), 2.0, []

    def respond(included):
        truth = rng.random(len(included)) < 1 / (1 + np.exp(-epsilon))
        return {"answer": np.where(truth, included, ~included) + 0.0, "noise": rng.normal(size=len(included))}

    for _ in range(200):
        known, included = rng.random((2, 1_000)) < 0.5
        rules = choose(respond(known), known, delta=1e-5, alpha=0.1)
        bounds = shown(respond(included), included, rules, delta=1e-5, alpha=0.1)
        above.append([bounds.clopper_pearson.low > epsilon, bounds.one_run.low > epsilon])
    assert np.all(np.sum(above, axis=0) <= 33)  # more than 33 of 200 at 10 % happen in 0.2 % of such tests
    assert bounds.clopper_pearson.low > 1.4


def test_a_score_that_overflowed_is_refused():
    with pytest.raises(TargetError, match="overflows"):
        choose({"sum": np.array([0.0, np.inf])}, np.array([True, False]), delta=1e-5, alpha=0.05)


def test_counts_include_the_threshold_itself():
    scores, included = {"s": np.array([0.0, 1.0, 1.0, 2.0])}, np.array([True, True, False, True])
    assert Rule("s", 1.0).counts(scores, included) == (2, 3, 1, 1)


@pytest.mark.parametrize("added", [1.0, 0.5, 0.0])
def test_a_signal_check_is_as_far_off_as_its_standard_error_says(added):
    """Over many trainings of known strength, each calibrated and attacked twice."""
    design, found = Design(300), []
    told = np.hypot(1 / 2.0, 2 / 4.0)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        first, *others = (design.sample_inclusion(rng) for _ in range(3))
        run_before, attacks = CalibrationRun(design, first), []
        for rows, gradients in watched(design, first * added, seed=3 * seed, deviation=(2.0, 4.0)):
            run_before.reader.read(rows)
            run_before.observe(gradients)
        known = run_before.learned()
        for at, included in enumerate(others, 1):
            adversary = Adversary(design, known, Claim(told, 0.5))
            for _, gradients in watched(design, included * added, seed=3 * seed + at, deviation=(2.0, 4.0)):
                adversary.observe(gradients)
            attacks.append((adversary, included))
        found.append(check_signal(Claim(told, 0.5), known, 300, attacks))
    off = [(one.moved - added * told) / one.error for one in found]
    if added:
        assert abs(np.mean(off)) < 0.5
        assert 0.7 < np.std(off) < 1.3
    else:
        assert 0.5 < np.mean(off) < 2.0  # a length is never below nothing


@pytest.mark.parametrize(
    "settings",
    [
        {"canaries": 100},
        *({"rate": rate} for rate in (0.0, 1.5, float("nan"))),
        *({"epsilon": epsilon} for epsilon in (0.0, -1.0, float("nan"))),
        *({"delta": delta} for delta in (0.0, 1.0)),
        *({"clip": clip} for clip in (0.0, float("inf"))),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(settings):
    with pytest.raises(UsageError):
        VerificationPlan(**settings)


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_an_impossible_alpha_is_refused(alpha):
    with pytest.raises(UsageError, match="alpha"):
        verify(doubles.Honest(), VerificationPlan(canaries=200), alpha=alpha)
