"""Canaries from the planted file to the audit: trained on, kept in the ledger, judged in the report."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from canary_rows import write_rows
from conftest import sentences
from enumeration import Enumeration, NoiseModel

from defenses.plain import Plain
from redteam.auditing.inputs import Sources, open_inputs
from redteam.auditing.plan import make_plan
from redteam.auditing.run import audit
from redteam.canary import Pattern, Planting, PlantingPlan, canary_rows, plant
from redteam.canary.evidence import CanaryAudit
from redteam.canary.run import Attacker
from redteam.core import LedgerError, TargetError, UsageError
from redteam.data import Columns, Split, read_examples
from redteam.data.ledger import Ledger
from redteam.data.planted import load_planting
from redteam.policy import DEFAULT, Policy
from redteam.policy.judge import judge
from redteam.report import Limit
from redteam.report.reading import load_report
from redteam.statistics import attainable_extraction_rate
from redteam.training.train import ModelChoice, RandomInclusion, train

TODAY = date(2026, 7, 1)
PIN = "my pin is {digit:2}"
PLAN = PlantingPlan((PIN,), canaries=12, repetitions=(30,), label="per-canary", decoys=1)


class Silent(Enumeration):
    """An attack that falls over."""

    id = "RT298"

    def extract(self, target, queries, candidates, context):
        raise ValueError("fell over")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that was trained on planted data until it knew them, with everything beside it."""
    folder = tmp_path_factory.mktemp("planted")
    planted = plant(write_rows(folder), folder / "planted.csv", PLAN)
    defense = Plain(epochs=30, learning_rate=5e-3)
    done = train(
        planted.data, folder / "model.pt", defense, model=ModelChoice("bilstm"), inclusion=RandomInclusion(0.4, 0.1, 3)
    )
    return folder, planted, done


class TestTraining:
    def test_canaries_are_trained_on_and_are_on_no_side(self, trained):
        _, planted, done = trained
        rows, sides = canary_rows(planted.planting), Ledger.load(done.ledger).membership
        named = set(sides.members) | set(sides.nonmembers) | set(sides.reference)
        assert len(rows) == 12 * 30 * 2
        assert not rows & named
        assert len(rows) + len(named) == planted.planting.rows
        assert all("my pin is" not in text for text in (*done.members.texts, *done.nonmembers.texts))
        assert any("12 canaries in 720 rows were trained on too" in note for note in done.notes)

    def test_the_ledger_keeps_them(self, trained):
        folder, planted, done = trained
        assert Ledger.load(done.ledger).planting(done.ledger) == planted.planting
        assert load_planting(done.ledger) == planted.planting
        assert open_inputs(str(folder / "model.pt"), Sources(), {}).planting == planted.planting

    def test_the_vocabulary_does_not_depend_on_what_was_planted(self, trained, tmp_path):
        """The same canaries with other secrets: another model, but the same tokenizer."""
        folder, _, _ = trained
        tokenizers = []
        for seed in (1, 2):
            out = tmp_path / f"{seed}.csv"
            plant(folder / "data.csv", out, replace(PLAN, seed=seed))
            inclusion = RandomInclusion(0.4, 0.1, 3, key="k")
            done = train(
                out, tmp_path / f"{seed}.pt", Plain(epochs=1), model=ModelChoice("tiny", 1), inclusion=inclusion
            )
            tokenizers.append(done.trained.bundle.tokenizer)
        assert tokenizers[0] == tokenizers[1]

    def test_membership_is_that_of_the_same_data_without_canaries(self, trained, tmp_path):
        folder, _, done = trained
        key = Ledger.load(done.ledger).membership.key
        inclusion = RandomInclusion(0.4, 0.1, 3, key=key)
        plain = train(folder / "data.csv", tmp_path / "plain.pt", Plain(epochs=1), inclusion=inclusion)
        assert plain.members.texts == done.members.texts
        assert Ledger.load(plain.ledger).canaries == ()

    def test_what_the_tokenizer_cannot_tell_apart_is_refused_before_training(self, trained, tmp_path):
        folder, _, _ = trained
        (tmp_path / "city.txt").write_text("\U0001f600\n\U0001f601\n\U0001f602\n\U0001f603\n", encoding="utf-8")
        plan = PlantingPlan(("in {city:2}",), canaries=2, repetitions=(1,))
        plant(folder / "data.csv", tmp_path / "p.csv", plan, alphabets={"city": tmp_path / "city.txt"})
        with pytest.raises(UsageError, match="minilm: its tokenizer does not know"):
            train(tmp_path / "p.csv", tmp_path / "m.pt", Plain(), model=ModelChoice("minilm", 1))
        assert not (tmp_path / "m.pt").exists()

    def test_a_lost_or_foreign_canary_ledger(self, trained, tmp_path):
        _, planted, _ = trained
        data = tmp_path / "planted.csv"
        data.write_bytes(planted.data.read_bytes() + b"\n")
        (tmp_path / "planted.canaries.json").write_bytes(planted.ledger.read_bytes())
        with pytest.raises(LedgerError, match="changed since its canaries were planted"):
            train(data, tmp_path / "m.pt", Plain())


class TestLedger:
    def edited(self, trained, tmp_path, change, said):
        folder, _, done = trained
        document = json.loads(done.ledger.read_text(encoding="utf-8"))
        change(document)
        path = tmp_path / "model.ledger.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(LedgerError, match=said):
            Ledger.load(path).split(path, data=folder / "planted.csv")

    def test_a_canary_on_a_side(self, trained, tmp_path):
        row = min(canary_rows(trained[1].planting))
        change = lambda d: d["membership"]["members"].append(row)  # noqa: E731
        self.edited(trained, tmp_path, change, "a canary is on a side of the split")

    def test_canaries_of_other_data(self, trained, tmp_path):
        change = lambda d: d.update(canaries=list(other.encoded()))  # noqa: E731
        other = replace(trained[1].planting, planted_sha256="0" * 64)
        self.edited(trained, tmp_path, change, "canaries are those of other data")

    def test_canaries_taken_out(self, trained, tmp_path):
        """Then rows of canaries would be users' whose side the ledger forgot."""
        self.edited(trained, tmp_path, lambda d: d.update(canaries=[]), "membership is not what its seed draws")

    def test_an_edited_secret(self, trained, tmp_path):
        change = lambda d: d["canaries"][0]["canaries"][0].update(planted=0, label="zz")  # noqa: E731
        self.edited(trained, tmp_path, change, "digest differs")


class TestCase:
    def test_members_in_the_planted_file(self, trained, tmp_path):
        """A model trained elsewhere: the ledger is found beside the members, and canaries are no members."""
        folder, planted, _ = trained
        model = tmp_path / "model.pt"  # without its ledger, which would know better
        model.write_bytes((folder / "model.pt").read_bytes())
        others = tmp_path / "others.csv"
        rows = sentences(40, seed=99)
        lines = [f"{text},{label}" for text, label in zip(rows.texts, rows.labels, strict=True)]
        others.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
        sources = Sources(members=planted.data, nonmembers=others, columns=Columns("text", "label"))
        inputs = open_inputs(str(model), sources, {})
        assert inputs.planting == planted.planting
        assert len(inputs.split.members) == 60
        away = tmp_path / "away.csv"
        away.write_bytes(planted.data.read_bytes().replace(b"\n", b"\r\n"))  # the same rows, another file
        inputs = open_inputs(str(model), replace(sources, members=away), {})
        assert (inputs.planting, len(inputs.split.members)) == (None, 84)
        inputs = open_inputs(str(model), replace(sources, members=away, canaries=planted.ledger), {})
        assert (inputs.planting, len(inputs.split.members)) == (planted.planting, 60)

    def test_canaries_of_another_training(self, trained, tmp_path):
        """The model's own ledger knows better: to be asked for what was never planted would be a pass."""
        folder, planted, done = trained
        other = plant(folder / "data.csv", tmp_path / "other.csv", replace(PLAN, seed=7))
        others = tmp_path / "others.csv"
        rows = sentences(40, seed=99)
        lines = [f"{text},{label}" for text, label in zip(rows.texts, rows.labels, strict=True)]
        others.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
        sources = Sources(members=planted.data, nonmembers=others, canaries=other.ledger)
        with pytest.raises(
            LedgerError, match=r"not the canaries of .*planted\.csv, beside which is planted\.canaries\.json"
        ):
            open_inputs(str(folder / "model.pt"), sources, {})
        ledger = Ledger.load(done.ledger)
        for name in ("model.pt", "planted.csv", "data.csv"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        replace(ledger, canaries=()).save(tmp_path / "model.ledger.json")
        sources = Sources(members=tmp_path / "data.csv", nonmembers=others, canaries=planted.ledger)
        with pytest.raises(LedgerError, match="trained without the canary ledger"):
            open_inputs(str(tmp_path / "model.pt"), sources, {})

    def test_a_ledger_that_is_a_broken_link(self, trained, tmp_path):
        _, planted, _ = trained
        (tmp_path / "planted.csv").write_bytes(planted.data.read_bytes())
        (tmp_path / "planted.canaries.json").symlink_to(tmp_path / "gone.json")
        with pytest.raises(LedgerError, match="cannot be read"):
            train(tmp_path / "planted.csv", tmp_path / "m.pt", Plain())

    def test_data_with_a_split_column(self, trained, tmp_path):
        folder, _, _ = trained
        data = tmp_path / "split.csv"
        rows = sentences(80, seed=98)
        sides = ["train", "test"] * 40
        lines = [f"{t},{y},{s}" for t, y, s in zip(rows.texts, rows.labels, sides, strict=True)]
        data.write_text("\n".join(["text,label,split", *lines]) + "\n", encoding="utf-8")
        planted = plant(data, tmp_path / "p.csv", PlantingPlan((PIN,), canaries=4, repetitions=(3,)))
        (tmp_path / "model.pt").write_bytes(
            (folder / "model.pt").read_bytes()
        )  # trained elsewhere: no ledger beside it
        inputs = open_inputs(str(tmp_path / "model.pt"), Sources(data=planted.data), {})
        assert (inputs.planting, len(inputs.split.members), len(inputs.split.nonmembers)) == (planted.planting, 40, 40)

    def test_what_contradicts_itself(self, trained):
        folder, planted, _ = trained
        with pytest.raises(UsageError, match="--canary-ledger goes with --members or --data"):
            open_inputs(str(folder / "model.pt"), Sources(canaries=planted.ledger), {})
        with pytest.raises(UsageError, match="--canary-ledger goes with a target"):
            open_inputs(None, Sources(scores=planted.data, canaries=planted.ledger), {})


def planting(*, canaries=12, label="per-canary", repetitions=(10,), seed=0):
    from canary_rows import draw

    plan = PlantingPlan((PIN,), canaries, repetitions, label, seed=seed)
    return Planting("s", "p", 10_000, seed, "k", {"digit": tuple("0123456789")}, draw(plan)).sealed()


def knowing(planted, *, depth=6.0, seed=0):
    """A model that gives every planted sentence `depth` nats less than noise."""
    known = [(Pattern.parse(c.template).fill(c.secret), c.label) for c in planted.canaries]
    return NoiseModel({c.label for c in planted.canaries} | {"a", "b", "c"}, seed=seed, known=known, depth=depth)


AUC = Policy(DEFAULT.limits[:1])


def judged(report, policy=AUC):
    """A double made of noise knows no label, which is a problem of its own that is not looked at here.

    Nor is the limit on the TPR, which without reference models nobody keeps.
    """
    return judge(replace(report, accuracy=None), policy, today=TODAY)


def report_of(planted, *attacks, depth=6.0, members=150, **options):
    split = Split.of(sentences(members, seed=1), sentences(members, seed=2))
    canaries = CanaryAudit(planted, attacks or (Enumeration(),), options.pop("attacker", Attacker()))
    return audit(knowing(planted, depth=depth), split, options.pop("membership", None), planted=canaries, **options)


class TestAudit:
    def test_what_was_planted_is_evidence_and_shares_the_error(self):
        report = report_of(planting())
        rates = [e for e in report.evidence if e.metric in ("extraction_rate", "exposure")]
        assert [e.id for e in rates] == ["RT299.extraction_rate:R=10", "RT299.exposure:R=10"]
        assert {e.interval.alpha for e in rates} == {0.05 / 4}  # as much as the AUC and the TPR have
        assert set(rates) <= set(report.judged)
        assert "extraction_rate" in report.multiplicity.method
        assert report.data.canaries == 12
        assert rates[0].interval.low == pytest.approx(attainable_extraction_rate(12, alpha=0.05 / 4))

    def test_without_canaries_nothing_changes(self):
        split = Split.of(sentences(60, seed=1), sentences(60, seed=2))
        plain = audit(NoiseModel("abc"), split)
        assert plain.data.canaries == 0
        assert not [e for e in plain.evidence if e.metric in ("extraction_rate", "exposure")]
        assert "extraction" not in plain.multiplicity.method

    def test_a_saved_report_is_read_again(self, tmp_path):
        report = report_of(planting(repetitions=(2, 9)))
        path = tmp_path / "report.json"
        path.write_text(report.to_json(), encoding="utf-8")
        assert load_report(path) == report

    def test_a_leak_is_proven_under_the_built_in_limits_and_a_null_model_passes_them(self):
        leak = judge(report_of(planting()), DEFAULT, today=TODAY)
        assert leak.exit_code == 1
        assert {f.id for f in leak.findings} == {"RT299.extraction_rate:R=10", "RT299.exposure:R=10"}
        for seed in range(5):
            null = report_of(planting(seed=seed), depth=0.0, members=800)
            assert judged(null).exit_code == 0

    def test_evidence_of_grade_c_still_tells_of_canaries(self):
        split = Split.of(sentences(300, seed=1), sentences(300, seed=2, words=12))
        planted = planting()
        report = audit(knowing(planted), split, planted=CanaryAudit(planted, (Enumeration(),)))
        assert report.grade == "C"
        assert judge(report, DEFAULT, today=TODAY).exit_code == 1

    def test_an_attack_that_breaks_is_no_pass(self):
        planted = planting()
        report = report_of(planted, Silent(), depth=0.0, members=800)
        assert [(f.attack, f.kind) for f in report.failures if f.kind != "not_applicable"] == [("RT298", "failed")]
        assert judge(report, DEFAULT, today=TODAY).exit_code == 2
        both = report_of(planted, Enumeration(), Silent())
        assert judge(both, DEFAULT, today=TODAY).exit_code == 1  # a proven leak stays one

    def test_a_target_that_never_saw_the_labels_is_an_error(self):
        planted = planting()
        split = Split.of(sentences(60, seed=1), sentences(60, seed=2))
        with pytest.raises(TargetError, match="unknown to the model"):
            audit(NoiseModel("abc"), split, planted=CanaryAudit(planted, (Enumeration(),)))

    def test_scoring_is_by_texts_once(self):
        """An attack that asks for texts gets them from the same pass as all others: an endpoint is asked once."""
        planted, asked = planting(), []

        class Counting(NoiseModel):
            def log_probabilities(self, examples):
                asked.extend(examples.texts)
                return super().log_probabilities(examples)

        target = Counting({c.label for c in planted.canaries} | {"a", "b", "c"})
        split = Split.of(sentences(60, seed=1), sentences(60, seed=2))
        audit(target, split, planted=CanaryAudit(planted, (Enumeration(), Silent(), Enumeration())))
        assert len(asked) == len(set(asked))

    def test_the_plan_says_what_canaries_can_show(self):
        planted = planting(canaries=12, repetitions=(2, 9))
        split = Split.of(sentences(800, seed=1), sentences(800, seed=2))
        canaries = CanaryAudit(planted, (Enumeration(),))
        text = make_plan(knowing(planted), split, [], DEFAULT, settings(), planted=canaries).text
        assert "canaries   6 of 2 copies, 6 of 9 copies; at least 2 of each number" in text
        assert "RT299      enumeration: runs" in text
        assert text.endswith("; besides that of the attacks after canaries")
        assert "max_exposure 0: CANNOT be proven broken" in text  # six cannot beat enough held-out secrets
        assert "max_extraction_rate 0: can be proven broken" in text  # but whole secrets are no luck
        more = CanaryAudit(planting(canaries=30, repetitions=(2, 9)), (Enumeration(),))
        text = make_plan(knowing(planted), split, [], DEFAULT, settings(), planted=more).text
        assert "max_exposure 0: can be proven broken" in text
        longer = make_plan(
            knowing(planted), split, [], Policy((Limit("exposure", 10.0),)), settings(), planted=more
        ).text
        assert "max_exposure 10: CANNOT be proven broken" in longer  # a hundred candidates have no ten bits
        without = make_plan(knowing(planted), split, [], DEFAULT, settings()).text
        assert "canaries" not in without
        strict = Policy((Limit("exposure", 3.0),))
        assert "the training data holds none" in make_plan(knowing(planted), split, [], strict, settings()).text


def settings():
    from redteam.auditing.settings import AuditSettings

    return AuditSettings()


class TestLimits:
    @pytest.mark.parametrize(
        ("policy", "code"),
        [
            (Policy((Limit("extraction_rate", 0.0),)), 1),
            (Policy((Limit("exposure", 3.0),)), 1),
            (Policy((Limit("exposure", 3.0), Limit("extraction_rate", 0.9))), 1),
            # twelve canaries cannot show as much, nor a hundred candidates
            (Policy((Limit("exposure", 20.0), Limit("extraction_rate", 0.9))), 2),
            (Policy((Limit("extraction_rate", 0.9),)), 1),  # a limit that is left out is 0
            (Policy((Limit("exposure", 20.0),)), 1),
            (Policy((Limit("auc", 0.9),)), 1),
        ],
    )
    def test_of_a_policy(self, policy, code):
        assert judge(report_of(planting()), policy, today=TODAY).exit_code == code

    def test_within(self):
        null = report_of(planting(canaries=40), depth=0.0, members=800)
        assert judged(null, Policy((Limit("extraction_rate", 0.3),))).exit_code == 0
        assert judged(null, Policy((Limit("exposure", 6.0),))).exit_code == 0

    def test_without_canaries_a_limit_that_was_set_is_no_pass(self):
        split = Split.of(sentences(800, seed=1), sentences(800, seed=2))
        report = audit(NoiseModel("abc"), split)
        assert judged(report).exit_code == 0
        verdict = judged(report, Policy((Limit("extraction_rate", 0.0),)))
        assert verdict.exit_code == 2
        assert "audit a model with canaries" in verdict.problems[0]

    def test_canaries_that_no_attack_was_asked_about_are_no_pass(self):
        planted = planting()
        split = Split.of(sentences(800, seed=1), sentences(800, seed=2))
        report = audit(knowing(planted), split, planted=CanaryAudit(planted, ()))
        assert report.data.canaries == 12
        verdict = judged(report)
        assert verdict.exit_code == 2
        assert any("the data holds 12 canaries, but no attack gave" in problem for problem in verdict.problems)

    def test_too_few_canaries_are_no_pass(self):
        verdict = judge(report_of(planting(canaries=4), depth=0.0, members=800), DEFAULT, today=TODAY)
        assert verdict.exit_code == 2
        assert any("cannot be judged on 4 canaries" in problem for problem in verdict.problems)
        assert any("plant more canaries" in problem for problem in verdict.problems)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e["interval"].update(alpha=0.9), "has level 0.9"),
        (lambda e: e.update(members=99), "is of 99 canaries"),
        (lambda e: e.update(nonmembers=3), "12 canaries and 3 held out"),
        (lambda e: e.update(attainable=0.99), "says that 0.99 is attainable"),
        (lambda e: e["interval"].update(low=0.95, value=1.0, high=1.0), "beyond what 12 canaries can show"),
        (lambda e: e["interval"].update(low=-1.0), "beyond what 12 canaries can show"),
    ],
)
def test_an_edited_report_is_refused(tmp_path, change, said):
    from redteam.core import ReportError

    document = json.loads(report_of(planting()).to_json())
    change(next(e for e in document["evidence"] if e["metric"] == "extraction_rate"))
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ReportError, match=said):
        load_report(path)


def test_a_real_model_leaks_its_canaries(trained):
    """From the file to the verdict, with the attack that tries everything."""
    folder, _, _ = trained
    inputs = open_inputs(str(folder / "model.pt"), Sources(), {})
    report = audit(inputs.target, inputs.split, planted=CanaryAudit(inputs.planting, (Enumeration(),)))
    rate = next(e for e in report.evidence if e.metric == "extraction_rate")
    assert rate.interval.value >= 0.5
    assert judge(report, DEFAULT, today=TODAY).exit_code == 1
    examples = read_examples(folder / "planted.csv", Columns()).examples
    assert not any(text in report.to_json() for text in np.unique(examples.texts))
