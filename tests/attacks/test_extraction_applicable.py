"""What does not apply to one pattern goes on with the others; what would only search again does not run by default."""

from datetime import date

import extraction_models as cases
import pytest
import tiny_models
from canary_rows import DIGITS, draw
from conftest import sentences
from enumeration import Enumeration, NoiseModel

from attacks.extraction.exposure import ExposureRank
from attacks.extraction.relaxed import RelaxedSearch
from attacks.extraction.search import SwapSearch
from redteam.auditing.plan import make_plan
from redteam.auditing.run import audit
from redteam.auditing.settings import AuditSettings
from redteam.canary import Pattern, Planting, PlantingPlan
from redteam.canary.evidence import CanaryAudit
from redteam.canary.extract import extract
from redteam.canary.render import render
from redteam.canary.run import count_tests, run_extraction, without_searches
from redteam.cli.audit import _chosen
from redteam.data import Split
from redteam.plugins.context import AttackContext
from redteam.plugins.extraction import NotApplicable
from redteam.policy import Policy
from redteam.policy.judge import judge
from redteam.report import Limit
from redteam.report.values import Failure
from redteam.targets.target import Access

PATTERNS = ("my pin is {digit:2}", "my age is {digit:2}")
TODAY = date(2026, 7, 1)


def planting(patterns=PATTERNS, *, canaries=24, **changes):
    drawn = draw(PlantingPlan(patterns, canaries=canaries, repetitions=(10,), **changes))
    return Planting("s", "p", 10_000, 0, "k", DIGITS, drawn).sealed()


def knowing(planted, depth=12.0):
    known = [(Pattern.parse(c.template).fill(c.secret), c.label) for c in planted.canaries]
    return NoiseModel({c.label for c in planted.canaries} | set("abc"), known=known, depth=depth)


class OnlyPins(Enumeration):
    """Cannot see into sentences about ages."""

    id = "RT298"

    def extract(self, target, queries, candidates, context):
        if any("age" in query.pattern.template for query in queries):
            raise NotApplicable("cannot spell 'my age is'")
        return super().extract(target, queries, candidates, context)


class Breaks(OnlyPins):
    """Falls over on what is left."""

    def extract(self, target, queries, candidates, context):
        if len({query.pattern for query in queries}) == 1:
            raise ValueError("fell over")
        raise NotApplicable("not all")


class TestOnePattern:
    def test_the_others_go_on(self):
        planted = planting()
        asked = run_extraction(OnlyPins(), knowing(planted), planted, seed=0)
        pins = [c.id for c in planted.canaries if "pin" in c.template]
        assert [answer.query for answer in asked.answers] == pins
        assert asked.failures == (Failure("RT298", "not_applicable", "cannot spell 'my age is'"),)
        alone = run_extraction(Enumeration(), knowing(planted), planted, seed=0)
        assert asked.answers == tuple(a for a in alone.answers if a.query in pins)

    def test_beside_an_attack_that_applies_it_is_a_leak_and_by_itself_no_pass(self):
        planted = planting()
        report = extract(knowing(planted), planted, [OnlyPins(), Enumeration()])
        assert report.exit_code == 1
        assert [(group.attack, group.canaries) for group in report.groups] == [("RT298", 12), ("RT299", 24)]
        assert "cannot spell 'my age is'" in render(report)
        quiet = extract(knowing(planted, 0.0), planted, [OnlyPins()])
        assert quiet.exit_code == 2
        assert "no attack could be run for 12 of 24 canaries" in quiet.problems
        both = extract(knowing(planted, 0.0), planted, [OnlyPins(), Enumeration()])
        assert not [problem for problem in both.problems if "no attack" in problem]

    def test_a_break_on_a_pattern_is_a_failure_of_the_whole(self):
        planted = planting()
        asked = run_extraction(Breaks(), knowing(planted), planted, seed=0)
        assert asked.answers == ()
        assert {failure.kind for failure in asked.failures} == {"failed"}

    def test_an_audit_judges_those_that_were_asked_and_says_who_was_not(self):
        planted = planting()
        split = Split.of(sentences(150, seed=1), sentences(150, seed=2))
        report = audit(knowing(planted), split, planted=CanaryAudit(planted, (OnlyPins(),)))
        rates = [e for e in report.evidence if e.metric == "extraction_rate"]
        assert [e.members for e in rates] == [12]
        assert judge(report, Policy((Limit("extraction_rate", 0.0),)), today=TODAY).exit_code == 1
        lenient = judge(report, Policy((Limit("extraction_rate", 1.0),)), today=TODAY)
        assert any("no attack gave an" in p and "12 of 24 canaries" in p for p in lenient.problems)

    def test_a_tokenizer_that_spells_one_pattern_only(self, monkeypatch):
        """RT202 and RT203 by a model whose input cuts the longer sentence off."""
        target = cases.target()
        long = cases.query("a {w:2} " + "b " * 50, symbols=cases.MIXED, id="L")
        short = cases.query(symbols=tiny_models.WORDS[:4], id="S")
        monkeypatch.setattr("redteam.canary.run.queries_of", lambda planted: (long, short))
        monkeypatch.setattr("redteam.canary.run.candidates_of", lambda planted: ())
        for attack in (
            RelaxedSearch(restarts=2, rounding_interval=4),
            SwapSearch(restarts=1, random_starts=1, rounding_interval=4),
        ):
            asked = run_extraction(attack, target, None, seed=0)
            assert [answer.query for answer in asked.answers] == ["S"]
            assert "'a {w:2} b b" in asked.failures[0].reason


ALL = (ExposureRank(), RelaxedSearch(), SwapSearch())


class TestSearches:
    def test_do_not_run_where_another_looks_at_everything(self):
        planted = planting()
        run, spared = without_searches(ALL, planted, Access.WEIGHTS)
        assert [attack.id for attack in run] == ["RT201"]
        assert [failure.attack for failure in spared] == ["RT202", "RT203"]
        assert "RT201 ranks every candidate" in spared[0].reason
        assert count_tests(run, planted, Access.WEIGHTS) == 3
        assert len(CanaryAudit(planted, run, spared=spared).planned(Access.WEIGHTS)) == 2

    @pytest.mark.parametrize(
        ("attacks", "patterns", "access"),
        [
            ((ExposureRank(enumerable=99), *ALL[1:]), PATTERNS, Access.WEIGHTS),
            (ALL[1:], PATTERNS, Access.WEIGHTS),
            (ALL, (PATTERNS[0], "my card is {digit:9}"), Access.WEIGHTS),
        ],
    )
    def test_run_where_nobody_does(self, attacks, patterns, access):
        assert without_searches(attacks, planting(patterns), access) == (attacks, ())

    def test_run_where_they_are_wanted(self):
        run, spared = without_searches(ALL, planting(), Access.WEIGHTS, kept=("RT203",))
        assert [attack.id for attack in run] == ["RT201", "RT203"]
        assert [failure.attack for failure in spared] == ["RT202"]

    def test_the_report_and_the_plan_say_so_and_a_policy_that_requires_one_is_told(self):
        planted = planting()
        split = Split.of(sentences(150, seed=1), sentences(150, seed=2))
        canaries = CanaryAudit(planted, (Enumeration(),), spared=without_searches(ALL, planted, Access.WEIGHTS)[1])
        report = audit(knowing(planted), split, planted=canaries)
        assert (
            report.multiplicity.intervals
            == audit(knowing(planted), split, planted=CanaryAudit(planted, (Enumeration(),))).multiplicity.intervals
        )
        spared = [(f.attack, f.kind) for f in report.failures if f.attack.startswith("RT2")]
        assert spared == [("RT202", "not_applicable"), ("RT203", "not_applicable")]
        verdict = judge(report, Policy(require=("RT202",)), today=TODAY)
        assert any("RT202 is required and gave no evidence: not_applicable: RT201" in p for p in verdict.problems)
        plan = make_plan(knowing(planted), split, [], Policy(), AuditSettings(), planted=canaries).text
        assert "RT203      not run: RT201 ranks every candidate" in plan

    def test_the_command_leaves_them_out_unless_named_or_required(self):
        class Inputs:
            planting, target = planting(), cases.target()

        def ids(wanted, required=(), given=()):
            planted = _chosen(wanted, list(given), Inputs, None, None, required, trains=False)[1]
            return [attack.id for attack in planted.attacks], [failure.attack for failure in planted.spared]

        assert ids(None) == (["RT201", "RT204"], ["RT202", "RT203"])
        assert ids(None, given=["RT202.restarts=2"]) == (["RT201", "RT202", "RT204"], ["RT203"])
        assert ids(None, ("RT203",)) == (["RT201", "RT203", "RT204"], ["RT202"])
        assert ids(["RT202"]) == (["RT202"], [])
        assert ids(["RT201", "RT203"]) == (["RT201", "RT203"], [])


def test_the_seed_of_one_pattern_does_not_depend_on_the_others():
    """So that asking by pattern gives what asking about all would have given."""
    target = cases.target()
    one, two = (cases.query(t, symbols=tiny_models.WORDS[:4], id=t) for t in ("call {w:2} book", "play {w:2}"))
    attack = SwapSearch(restarts=1, random_starts=2, rounding_interval=4)
    both = attack.extract(target, [one, two], [], AttackContext(3))
    assert both[1] == attack.extract(target, [two], [], AttackContext(3))[0]
