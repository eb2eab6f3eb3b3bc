"""Label canaries: planted in a real training, cut off again, scored by three adversaries, and judged by the audit."""

import hashlib
import io
import json
import math
import stat
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import sentences
from transformers import AutoConfig

from defenses.dpsgd import DPSGD
from defenses.edpsgd.defense import EDPSGD
from defenses.plain import Plain
from redteam.auditing.besides import Besides
from redteam.auditing.inputs import Sources, open_inputs
from redteam.auditing.plan import make_plan
from redteam.auditing.run import audit
from redteam.auditing.settings import AuditSettings
from redteam.canary.label_evidence import LabelAudit
from redteam.canary.label_watch import LabelWatch
from redteam.core import LedgerError, UsageError
from redteam.data.label_canaries import ACCESSES, ANSWERS, UPDATES, WEIGHTS, LabelPlan, planted_path
from redteam.data.ledger import Ledger, ledger_path
from redteam.models.heads import build
from redteam.models.initial import initial_model
from redteam.models.label_rows import LabelRequest, last_linear, plant_rows
from redteam.plugins.defense import Mechanism
from redteam.policy import Policy
from redteam.policy.judge import judge
from redteam.report import Limit
from redteam.targets.loading import load_target
from redteam.training.train import ModelChoice, train

ROWS, COUNT = sentences(120, seed=8), 300
PRIVATE = EDPSGD(epsilon=None, noise_multiplier=1.0, epochs=8, batch_size=60, runs=1)
POLICY = Policy((Limit("auc", 0.9),), allow_untrained=True)


def write(folder):
    lines = [f"{text},{label}" for text, label in zip(ROWS.texts, ROWS.labels, strict=True)]
    path = folder / "data.csv"
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


def trained(folder, defense=PRIVATE, spec="bilstm", count=COUNT, **options):
    data = folder / "data.csv"
    return train(
        write(folder) if not data.exists() else data,
        folder / "model.pt",
        defense,
        model=ModelChoice(spec, **options),
        label_canaries=count,
    )


def evidence(folder, policy=POLICY):
    """The epsilons of label canaries by signal, and the verdict."""
    inputs = open_inputs(str(folder / "model.pt"), Sources(), {})
    report = audit(inputs.target, inputs.split, guarantee=inputs.guarantee, besides=Besides(inputs.labels))
    verdict = judge(report, policy, today=date(2026, 1, 1))
    return {each.signal: each for each in report.evidence if each.attack == "label-canaries"}, report, verdict


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest")
    with pytest.MonkeyPatch.context() as patch:  # what few canaries show is luck too: always the same
        patch.setattr("secrets.token_hex", lambda size: "5a" * size)
        patch.setattr("secrets.randbits", lambda size: 12345)
        files = trained(folder)
    return folder, files, *evidence(folder)


class TestHonestTraining:
    def test_the_released_model_has_the_users_labels_alone(self, honest):
        folder, files, *_ = honest
        bundle = files.trained.bundle
        assert bundle.labels == tuple(sorted(set(ROWS.labels)))
        assert all(COUNT not in value.shape and COUNT + 3 not in value.shape for value in bundle.state.values())
        assert load_target(str(folder / "model.pt")).labels == bundle.labels

    def test_what_tells_of_canaries_is_private(self, honest):
        folder, files, *_ = honest
        for path in (files.ledger, planted_path(files.model)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert {p.name for p in folder.iterdir()} == {"data.csv", "model.pt", "model.ledger.json", "model.planted.pt"}
        assert any("300 label canaries" in note for note in files.notes)

    def test_the_ledger_holds_inclusion_rules_and_a_score_each(self, honest):
        canaries = Ledger.load(honest[1].ledger).label_canaries
        assert canaries.included.count("1") == canaries.plan.included.sum()
        assert 100 < canaries.included.count("1") < 200
        assert set(canaries.plan.rules) == set(ACCESSES)
        assert len(canaries.scores) == COUNT
        assert canaries.plan.claim == honest[1].trained.guarantee.accounted.epsilon

    def test_canaries_move_the_updates_as_far_as_the_clip_admits(self, honest):
        watched = Ledger.load(honest[1].ledger).label_canaries.watched
        assert abs(watched.moved - 1) < 4 * watched.error < 0.5
        assert watched.share > 0.7

    def test_canaries_left_out_move_as_far_as_the_noise_moves_them(self, honest):
        watched = Ledger.load(honest[1].ledger).label_canaries.watched
        assert abs(watched.noise - 1) < 4 * watched.noise_error < 0.3
        assert not [*watched.troubles()]

    def test_more_is_shown_by_whoever_observes_more_and_never_above_the_claim(self, honest):
        shown, report, verdict = honest[2:]
        accounted = report.guarantee.accounted.epsilon
        assert 0.2 * accounted < shown[UPDATES].interval.low <= accounted
        assert shown[UPDATES].interval.low > shown[f"{UPDATES}, one run"].interval.low
        assert all(each.interval.low <= min(accounted, each.attainable) for each in shown.values())
        assert not verdict.proven

    def test_alpha_is_shared_with_the_report(self, honest):
        report = honest[3]
        levels = {share.id: share.error for share in report.multiplicity.shares}
        assert sum(levels.values()) == pytest.approx(0.05)
        ids = {f"label-canaries.canary_epsilon:{access}" for access in ACCESSES}
        assert ids <= levels.keys()
        assert len({levels[each] for each in ids}) == 1

    def test_the_report_says_what_each_bound_rests_on(self, honest):
        notes = " ".join(honest[3].attack_notes)
        assert "Gaussian mechanism on a Poisson sample" in notes
        assert "included independently with probability 1/2" in notes

    def test_a_limit_on_epsilon_is_held_against_them(self, honest):
        report = replace(honest[3], guarantee=None, scope=replace(honest[3].scope, guarantee=False))
        verdict = judge(
            report, Policy((Limit("epsilon", 0.5, delta=1e-5),), allow_untrained=True), today=date(2026, 1, 1)
        )
        assert verdict.exit_code == 1
        assert any(finding.id == f"label-canaries.canary_epsilon:{UPDATES}" for finding in verdict.findings)


def test_a_dry_run_says_what_the_report_then_holds(honest):
    folder, shown = honest[0], honest[2]
    inputs = open_inputs(str(folder / "model.pt"), Sources(), {})
    how = {"guarantee": inputs.guarantee}
    lines = make_plan(
        inputs.target, inputs.split, (), POLICY, AuditSettings(), besides=Besides(inputs.labels), **how
    ).lines
    said = [line for line in lines if line.startswith("canaries ")]
    assert said[0] == f"canaries   300 label canaries, {shown[UPDATES].members} of them trained on"
    assert [line.split(":")[0].removeprefix("canaries   ") for line in said[1:]] == list(ACCESSES)
    assert "model.planted.pt" in said[2]
    most = audit(inputs.target, inputs.split, (), besides=Besides(inputs.labels), **how)
    for line, access in zip(said[1:], ACCESSES, strict=True):
        (row,) = (each for each in most.evidence if each.signal == access)
        assert f"epsilon up to {row.attainable:.2f} at error {row.interval.alpha:.2g}," in line


def test_plain_training_tells_all_of_its_canaries(tmp_path):
    trained(tmp_path, Plain(epochs=25, batch_size=16, learning_rate=1e-2))
    shown, _, _ = evidence(tmp_path)
    for access in (WEIGHTS, ANSWERS):
        assert shown[access].interval.low > 0.9 * shown[access].attainable > 1


def test_noise_that_drowns_everything_shows_nothing(tmp_path):
    trained(tmp_path, replace(PRIVATE, noise_multiplier=300.0, epochs=2), spec="tiny")
    shown, _, _ = evidence(tmp_path)
    assert all(each.interval.low == 0 for each in shown.values())


@dataclass(frozen=True)
class Quiet(EDPSGD):
    """Adds a fifth of the noise that it accounts for."""

    def stepper(self, problem, plan, source):
        mechanism = replace(plan.mechanism, noise_multiplier=plan.mechanism.noise_multiplier / 5)
        return super().stepper(problem, replace(plan, mechanism=mechanism), source)


@dataclass(frozen=True)
class Unclipped(EDPSGD):
    """Clips at ten times the norm that it says."""

    def stepper(self, problem, plan, source):
        found = super().stepper(problem, plan, source)
        found.clipper.clip = 10.0
        return found


def test_too_little_noise_breaks_the_claim(tmp_path):
    trained(tmp_path, Quiet(**PRIVATE.parameters()))
    shown, report, verdict = evidence(tmp_path)
    assert shown[UPDATES].interval.low > report.guarantee.accounted.epsilon
    assert verdict.exit_code == 1
    assert verdict.findings[0].id == "claim:epsilon"


@pytest.mark.parametrize(
    ("watched", "said"),
    [
        ({"moved": 0.4, "error": 0.02}, "canaries moved the updates 0.40 times as far"),
        ({"moved": 1.3, "error": 0.02}, "canaries moved the updates 1.30 times as far"),
        ({"moved": 0.0, "error": 0.0}, "canaries moved the updates 0.00 times as far"),
        ({"noise": 0.5}, "left out moved 0.50 times as far as the noise"),
        ({"noise": 5.3}, "left out moved 5.30 times as far as the noise"),
    ],
)
def test_steps_that_were_not_what_is_claimed_are_inconclusive(honest, tmp_path, watched, said):
    edited(honest[0], tmp_path, lambda of: of["watched"].update(watched))
    _, _, verdict = evidence(tmp_path)
    assert verdict.exit_code == 2
    assert any(said in problem for problem in verdict.problems)


def test_more_steps_than_the_mechanism_is_worked_out_for_are_judged_by_random_inclusion_alone(honest, tmp_path):
    edited(honest[0], tmp_path, lambda of: of["watched"].update(steps=300_000))
    shown, report, _ = evidence(tmp_path)
    assert set(shown) == set(ACCESSES)
    assert not any("Poisson sample" in note for note in report.attack_notes)


def test_an_update_that_nobody_watched_is_one_that_moved_nothing():
    initial = initial_model("tiny", ROWS, learn_from=ROWS, seed=0, layers=1)
    plan = LabelPlan.draw(50)
    planted = plant_rows(initial.model, [2, 3], torch.from_numpy(plan.included), labels=3, name="tiny")
    for clip in (1.0, math.inf):  # with a clip, and without
        watch = LabelWatch(initial.model, planted, LabelRequest(plan))
        watch._mechanism = Mechanism(clip, 1.0, 0.5, 10)
        assert watch.result().watched.moved == 0.0


def test_micro_batches_are_judged_by_random_inclusion_alone(honest, tmp_path):
    edited(honest[0], tmp_path, lambda of: of["watched"].update(plain=False))
    shown, report, _ = evidence(tmp_path)
    assert set(shown) == set(ACCESSES)
    assert shown[UPDATES].interval.low < 0.8 * honest[2][UPDATES].interval.low
    assert not any("Poisson sample" in note for note in report.attack_notes)


@pytest.mark.parametrize(
    ("defense", "spec", "options"),
    [
        (DPSGD(epsilon=None, noise_multiplier=1.0, epochs=4, batch_size=60, runs=1), "tiny", {"layers": 1}),
        (replace(PRIVATE, epochs=4), "tiny", {"layers": 1}),
        (replace(PRIVATE, epochs=4), "bilstm", {"freeze_encoder": True}),
        (replace(PRIVATE, epochs=4, sampling="shuffled"), "bilstm", {"freeze_embeddings": True}),
    ],
)
def test_every_private_trainer_moves_them_as_far_as_it_says(tmp_path, defense, spec, options):
    files = trained(tmp_path, defense, spec, **options)
    watched = Ledger.load(files.ledger).label_canaries.watched
    assert abs(watched.moved - 1) < 4 * watched.error < 0.6


def test_broken_off_and_resumed_it_ends_with_the_same_numbers(tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    def stopping(step, steps, loss):
        if step == 3:
            raise Stop

    monkeypatch.setattr("secrets.token_hex", lambda size: "5a" * size)
    monkeypatch.setattr("secrets.randbits", lambda size: 12345)
    data, quick = write(tmp_path), replace(PRIVATE, epochs=2)
    how = {"model": ModelChoice("bilstm"), "label_canaries": COUNT}
    whole = train(data, tmp_path / "1.pt", quick, **how)
    monkeypatch.setattr("redteam.training.checkpoint.CHECKPOINT_EVERY", -1.0)
    with pytest.raises(Stop):
        train(data, tmp_path / "2.pt", quick, progress=stopping, **how)
    with pytest.raises(UsageError, match="--label-canaries: 200, but the unfinished training has 300: repeat those"):
        train(data, tmp_path / "2.pt", quick, model=ModelChoice("bilstm"), label_canaries=200)
    again = train(data, tmp_path / "2.pt", quick, **how)
    assert again.trained.bundle.digest() == whole.trained.bundle.digest()
    first, second = (Ledger.load(files.ledger).label_canaries for files in (whole, again))
    assert (first.scores, first.included, first.watched) == (second.scores, second.included, second.watched)
    assert first.planted_sha256 == second.planted_sha256


def test_gradients_of_canaries_are_those_that_autograd_gives():
    initial = initial_model("tiny", ROWS, learn_from=ROWS, seed=0, layers=1)
    model, plan = initial.model.eval(), LabelPlan.draw(50)
    planted = plant_rows(model, [2, 3], torch.from_numpy(plan.included), labels=3, name="tiny")
    with torch.no_grad():
        planted.layer.weight[3:] = torch.randn(50, planted.layer.in_features) * 0.1
        planted.layer.bias[3:] = torch.randn(50)
    watch = LabelWatch(model, planted, LabelRequest(plan))
    watch._mechanism = Mechanism(0.3, 1.0, 0.5, 10)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    planted.layer.weight.grad[3:], planted.layer.bias.grad[3:] = torch.ones(50, 64), torch.ones(50)
    watch.observe()
    read, chances, share = watch._text()
    norms = []
    for place in (0, 25, 49):
        loss = torch.nn.functional.cross_entropy(
            model(input_ids=torch.tensor([[2, 3]])).logits, torch.tensor([3 + place])
        )
        found = dict(
            zip(
                dict(model.named_parameters()),
                torch.autograd.grad(loss, list(model.parameters()), allow_unused=True),
                strict=True,
            )
        )
        own = torch.cat([found["classifier.weight"][3 + place], found["classifier.bias"][3 + place][None]])
        norm = torch.stack([g.norm() for g in found.values() if g is not None]).norm()
        assert torch.allclose(own, -(1 - chances[place]) * read, atol=1e-5)
        norms.append(float(own.norm() / norm))
    assert share == pytest.approx(np.mean(norms), abs=0.05)
    expected = 0.5 * (0.3 * share) ** 2  # rate times the squared part of the clip that lies in the own row
    assert watch._expected == pytest.approx(np.full(50, expected), rel=0.01)


def edited(folder, tmp_path, change):
    """A copy of the model with a changed ledger."""
    for name in ("data.csv", "model.pt", "model.ledger.json", "model.planted.pt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    path = tmp_path / "model.ledger.json"
    document = json.loads(path.read_text())
    change(document["label_canaries"])
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda of: of.update(included="1" * COUNT), "were not included at random"),
        (lambda of: of.update(included=""), "were not included at random"),
        (lambda of: of.update(included="x" * COUNT), "does not say which label canaries were included"),
        (lambda of: of["plan"].update(key="00"), "were not included at random"),
        (lambda of: of.update(scores=of["scores"][1:]), "299 scores of 300 label canaries"),
        (lambda of: of.update(planted_sha256="0"), "is not what training wrote"),
        (lambda of: of.update(planted="none.pt"), "is not there"),
        (lambda of: of["plan"].update(rules={}), "lacks the rules"),
        (lambda of: of["watched"].update(error=-1.0), "does not say how far"),
        (lambda of: of.update(planted=""), "does not say where the last layer"),
        (lambda of: of.update(scores=[0.0] * COUNT), "all label canaries have one score"),
        (lambda of: of["watched"].update(moved=math.nan), "moved"),
        (lambda of: of["watched"].update(noise=math.inf), "noise"),
    ],
)
def test_a_ledger_without_random_inclusion_is_refused(honest, tmp_path, change, words):
    path = edited(honest[0], tmp_path, change)
    with pytest.raises(LedgerError, match=words):
        open_inputs(str(path.with_name("model.pt")), Sources(), {})


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("weight", lambda of: of[:5]),
        ("weight", lambda of: of[0]),
        ("weight", lambda of: of[0, 0]),
        ("bias", lambda of: of[:, None]),
    ],
)
def test_rows_of_another_shape_are_refused(honest, tmp_path, name, cut):
    rows = torch.load(honest[0] / "model.planted.pt", weights_only=True)
    content = io.BytesIO()
    torch.save(rows | {name: cut(rows[name]).clone()}, content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    path = edited(honest[0], tmp_path, lambda of: of.update(planted_sha256=digest))
    path.with_name("model.planted.pt").write_bytes(content.getvalue())
    with pytest.raises(LedgerError, match="holds no rows of 300 label canaries"):
        open_inputs(str(path.with_name("model.pt")), Sources(), {})


def test_they_are_asked_of_no_endpoint(honest):
    class Endpoint:
        name = "http://127.0.0.1:1"

    with pytest.raises(UsageError, match="asked of no endpoint or function"):
        LabelAudit.open(
            Ledger.load(ledger_path(Path(honest[0] / "model.pt"))).label_canaries, honest[1].ledger, Endpoint()
        )


@pytest.mark.parametrize("count", [-1, 0, 19, 50_001])
def test_too_few_or_too_many_are_refused(tmp_path, count):
    with pytest.raises(UsageError, match="give 20 to 50,000"):
        trained(tmp_path, count=count)
    assert {p.name for p in tmp_path.iterdir()} == {"data.csv"}


def test_a_trainer_that_plants_none_is_refused(tmp_path):
    from defenses.regularised.dropout import Dropout

    with pytest.raises(UsageError, match="plants none"):
        trained(tmp_path, Dropout())


def test_a_head_that_is_no_linear_layer_is_refused():
    initial = initial_model("tiny", ROWS, learn_from=ROWS, seed=0, layers=1)
    initial.model.classifier = torch.nn.Sequential(torch.nn.Linear(64, 3))
    with pytest.raises(UsageError, match="no linear layer with a bias"):
        last_linear(initial.model, name="mine")
    initial.model.classifier = torch.nn.Linear(64, 3).requires_grad_(False)
    with pytest.raises(UsageError, match="is not trained"):
        plant_rows(initial.model, [1], torch.ones(20, dtype=torch.bool), labels=3, name="mine")


def small(kind, **settings):
    """A small classifier of transformers, as a directory of that kind is opened."""
    config = AutoConfig.for_model(kind, **{"vocab_size": 60, "pad_token_id": 0, "num_labels": 3} | settings)
    torch.manual_seed(0)
    return build(config).eval()


BERTISH = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", BERTISH),
        ("roberta", BERTISH),
        ("electra", BERTISH | {"embedding_size": 16}),
        ("distilbert", {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}),
    ],
)
def test_heads_of_other_encoders_take_them_too(kind, settings):
    model, plan = small(kind, **settings), LabelPlan.draw(40)
    before = model(input_ids=torch.tensor([[5, 6]])).logits
    planted = plant_rows(model, [5, 6], torch.from_numpy(plan.included), labels=3, name=kind)
    assert model(input_ids=torch.tensor([[5, 6]])).logits.shape == (1, 43)
    whole, chances, share = LabelWatch(model, planted, LabelRequest(plan))._text()
    assert whole.shape == (17,)
    assert chances.max() < 1e-4
    assert 0.3 < share <= 1
    planted.cut()
    assert torch.equal(model(input_ids=torch.tensor([[5, 6]])).logits, before)


def test_a_linear_head_without_a_bias_is_refused():
    model = small("gpt2", n_embd=16, n_layer=1, n_head=2, n_positions=16)
    with pytest.raises(UsageError, match=r"gpt2 scores its labels by score.weight, no linear layer with a bias"):
        plant_rows(model, [5], torch.ones(20, dtype=torch.bool), labels=3, name="gpt2")
