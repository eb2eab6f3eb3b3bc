"""`redteam updates`: what is recovered is judged beside a control, bad input is one line, no report holds a text."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from redteam.auditing.updates.files import load_update, load_updates
from redteam.auditing.updates.run import audit_updates
from redteam.auditing.updates.senders import read_sums, senders
from redteam.core import DataError, UsageError
from redteam.data import Examples
from redteam.formats import FORMATS
from redteam.models.bundle import save_bundle
from redteam.plugins.registry import discover_update_attacks, discover_update_controls
from redteam.plugins.update import ClientUpdate
from redteam.policy.judge import judge
from redteam.policy.reading import DEFAULT, parse_policy
from redteam.report.reading import require_consistent
from redteam.report.values import AuditReport
from redteam.testing.updates import random_bundle, random_encoder, random_texts, update_of

TODAY = date(2026, 7, 1)
CLIENTS = {f"client{i}": random_texts(2, seed=40 + i) for i in range(6)}


@pytest.fixture(scope="module")
def target():
    return random_encoder()


def rows_of(clients):
    whose = [
        (name, text, "abc"[label])
        for name, (texts, labels) in clients.items()
        for text, label in zip(texts, labels, strict=True)
    ]
    users, texts, labels = zip(*whose, strict=True)
    return Examples(np.arange(len(texts)), texts, labels, users=users)


def audited(target, updates, clients=CLIENTS, **options):
    (control,) = discover_update_controls()
    sent, _ = senders(target, {update.name: update for update in updates}, rows_of(clients))
    return audit_updates(target, sent, discover_update_attacks(), control, **options).report


@pytest.fixture(scope="module")
def leaky(target):
    return audited(target, [update_of(target, *texts, name=name) for name, texts in CLIENTS.items()])


def test_one_clean_step_of_every_client_is_a_proven_leak(leaky):
    verdict = judge(leaky, DEFAULT, today=TODAY)
    assert (verdict.status, verdict.exit_code, verdict.problems) == ("leak", 1, ())
    shares = {evidence.id: evidence.interval.value for evidence in leaky.evidence}
    assert shares == {
        "RT301.client.tokens_recovered:tokens": 1,
        "RT302.client.tokens_recovered:places": 1,
        "RT303.client.sentences_recovered:exact": 1,
        "RT303.client.sentences_recovered:verified": 1,
    }
    assert {finding.id for finding in verdict.findings} == set(shares)
    (control,) = leaky.controls
    assert (control.control, control.auc.value) == ("RT904", 0.5)
    # Six clients of whom all is recovered: the exact lower end at a quarter of the error of 0.01.
    assert leaky.evidence[0].interval.low == pytest.approx((0.0025 / 2) ** (1 / 6), abs=1e-4)


def test_the_report_is_consistent_and_holds_no_text(leaky):
    again = AuditReport.from_json(leaky.to_json())
    require_consistent(again, source="report")
    verdict = judge(again, DEFAULT, today=TODAY)
    for name, render in FORMATS.items():
        shown = render(again, verdict, policy=DEFAULT)
        assert not any(text in shown for texts, _ in CLIENTS.values() for text in texts), name
    assert "AML.T0024.001" in FORMATS["sarif"](again, verdict, policy=DEFAULT)
    raised = replace(again.evidence[0], attainable=0.99)
    with pytest.raises(Exception, match="6 clients do not have"):
        require_consistent(replace(again, evidence=(raised, *again.evidence[1:])), source="report")


def test_updates_of_other_texts_leak_nothing_of_these(target):
    others = [update_of(target, *random_texts(2, seed=90 + i), name=name) for i, name in enumerate(CLIENTS)]
    report = audited(target, others)
    assert all(evidence.interval.low == 0 for evidence in report.evidence)
    assert judge(report, DEFAULT, today=TODAY).status != "leak"


def test_a_single_client_is_held_against_random_tokens(target):
    name, texts = next(iter(CLIENTS.items()))
    report = audited(target, [update_of(target, *texts, name=name)])
    assert judge(report, DEFAULT, today=TODAY).status == "leak"
    policy = parse_policy({"max_sentences_recovered": 0.1}, source="policy.toml")
    verdict = judge(report, policy, today=TODAY)
    assert any("cannot be judged on 1 client" in problem for problem in verdict.problems)


def test_noise_that_hides_everything_is_no_leak_and_no_proof(target):
    hidden = []
    for at, (name, texts) in enumerate(CLIENTS.items()):
        generator = torch.Generator().manual_seed(at)
        change = update_of(target, *texts).change
        noisy = {n: v + 3 * torch.randn(v.shape, generator=generator) for n, v in change.items()}
        hidden.append(ClientUpdate(name, noisy))
    verdict = judge(
        audited(target, hidden), parse_policy({"max_tokens_recovered": 0.1, "strict": True}, source="p"), today=TODAY
    )
    assert verdict.status == "inconclusive"


def test_limits_on_members_are_not_about_updates_nor_the_other_way_round(leaky):
    policy = parse_policy({"max_auc": 0.6, "max_tokens_recovered": 0.9}, source="policy.toml")
    verdict = judge(leaky, policy, today=TODAY)
    assert not verdict.problems or all("max_auc" not in problem for problem in verdict.problems)
    assert {check.limit for check in verdict.checks} == {0.9, 0.0}


def test_an_attack_that_breaks_is_a_failure_and_no_pass(target, monkeypatch):
    monkeypatch.setattr("attacks.updates.sentences.Assembly.run", lambda *_: 1 / 0)
    report = audited(target, [update_of(target, *texts, name=name) for name, texts in CLIENTS.items()])
    assert [failure.kind for failure in report.failures] == ["failed"]
    assert "RT303 failed: ZeroDivisionError" in judge(report, DEFAULT, today=TODAY).problems[0]


BAD = {
    "missing.pt": (None, "no such file"),
    "nan.npz": ({"classifier.bias": np.full(3, np.nan, np.float32)}, r"classifier.bias holds numbers .*not finite"),
    "shape.npz": ({"classifier.bias": np.ones(4, np.float32)}, r"shape \(4,\), that of random encoder \(3,\)"),
    "other.npz": ({"other.weight": np.ones(3, np.float32)}, r"'other.weight' is no parameter .*another model"),
    "zero.npz": ({"classifier.bias": np.zeros(3, np.float32)}, "changes nothing"),
    "empty.npz": ({}, "holds no tensors"),
    "whole.npz": ({"classifier.bias": np.ones(3, np.int64)}, "floating-point"),
    "sparse.pt": ({"classifier.bias": torch.ones(3).to_sparse()}, "no dense tensor"),
    "meta.pt": ({"classifier.bias": torch.ones(3, device="meta")}, "no dense tensor"),
    "list.pt": ([torch.ones(3)], "holds no tensors by name"),
    "torn.safetensors": (b"torn", "cannot be read"),
    "code.pt": (b"\x80\x04K\x01.", "cannot be read|holds no tensors"),
    "what.csv": (b"a,b", "wanted .safetensors, .npz or .pt"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_update_is_named_in_one_line(target, tmp_path, name):
    content, message = BAD[name]
    if name.endswith(".pt") and content and not isinstance(content, bytes):
        torch.save(content, tmp_path / name)
    elif isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_update(tmp_path / name, target)
    assert "\n" not in str(caught.value)


def test_folders_are_rounds_and_each_but_the_first_says_what_it_began_with(target, tmp_path):
    change = dict(update_of(target, *random_texts(2, seed=1)).change)
    begun = {name: value.detach() + 0.01 for name, value in target.model.named_parameters()}
    for folder in ("1", "2"):
        (tmp_path / folder).mkdir()
    save_file(change, tmp_path / "1/a.safetensors")
    paths = [tmp_path / "1", tmp_path / "2"]
    with pytest.raises(DataError, match=r"2: no before.safetensors"):
        load_updates(paths, target)
    save_file(begun, tmp_path / "2/before.safetensors")
    with pytest.raises(DataError, match=r"2: holds no update"):
        load_updates(paths, target)
    save_file({name: value + begun[name] for name, value in change.items()}, tmp_path / "2/a.safetensors")
    with pytest.raises(DataError, match=r"2/a.safetensors: holds weights"):
        load_updates(paths, target)
    save_file(change, tmp_path / "2/a.safetensors")
    first, second = load_updates(paths, target).values()
    assert first.before is None
    assert torch.equal(second.before["classifier.bias"], begun["classifier.bias"])
    with pytest.raises(UsageError, match="two updates bear this name"):
        load_updates([tmp_path / "1/a.safetensors", tmp_path / "2/a.safetensors"], target)


def test_what_is_recovered_of_a_sum_is_counted_by_client_and_sums_that_share_one_are_one(target):
    groups = {"x": ("client0", "client1"), "y": ("client2", "client3"), "z": ("client3", "client4")}
    sums = {}
    for name, clients in groups.items():
        texts, labels = ([one for client in clients for one in CLIENTS[client][i]] for i in (0, 1))
        sums[name] = update_of(target, texts, labels, name=name)
    sent, left = senders(target, sums, rows_of(CLIENTS), groups)
    assert [truth.client for truth in left] == ["client5"]
    (control,) = discover_update_controls()
    report = audit_updates(target, sent, discover_update_attacks(), control).report
    assert "3 sums of 2 clients' updates, 5 clients" in report.target.kind
    exact = next(evidence for evidence in report.evidence if evidence.signal == "exact")
    assert (exact.interval.value, exact.members) == (1, 2)
    assert exact.interval.low == pytest.approx((0.0025 / 2) ** (1 / 2), abs=1e-4)
    assert judge(report, DEFAULT, today=TODAY).status == "leak"


def test_the_file_that_says_whose_sums_they_are_is_checked(tmp_path):
    path = tmp_path / "sums.csv"
    path.write_text("update,client\n1/sum,a\n1/sum,b\n2/sum,c\n")
    assert read_sums(path) == {"1/sum": ("a", "b"), "2/sum": ("c",)}
    for text, message in {"update\n1\n": "no column 'client'", "update,client\n1,\n": "line 2 names no client"}.items():
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_sums(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_sums(tmp_path / "none.csv")


def test_where_an_attack_does_not_apply_its_limit_is_not_passed(target):
    heads = {name: {"classifier.bias": torch.ones(3)} for name in CLIENTS}
    verdict = judge(audited(target, [ClientUpdate(n, c) for n, c in heads.items()]), DEFAULT, today=TODAY)
    assert (verdict.status, verdict.exit_code) == ("inconclusive", 2)
    mixed = [ClientUpdate(n, c) for n, c in heads.items()][:3]
    mixed += [update_of(target, *CLIENTS[n], name=n) for n in list(CLIENTS)[3:]]
    report = audited(target, mixed)
    assert report.evidence[0].members == 3  # and not six, of whom three leak nothing
    assert "to 3 of 6" in report.failures[0].reason


def test_weights_are_told_from_their_change(target, tmp_path):
    change = update_of(target, *random_texts(2, seed=1)).change
    whole = {name: value + 0.1 * change[name] for name, value in target.model.named_parameters() if name in change}
    save_file({name: value.detach() for name, value in whole.items()}, tmp_path / "client.safetensors")
    with pytest.raises(DataError, match=r"holds weights.* --after"):
        load_update(tmp_path / "client.safetensors", target)
    found = load_update(tmp_path / "client.safetensors", target, after=True)
    assert found.name == "client"
    assert torch.allclose(found.change["classifier.bias"], 0.1 * change["classifier.bias"], atol=1e-6)


def test_the_command_finds_the_leak_and_keeps_texts_private(target, redteam, tmp_path):
    save_bundle(random_bundle(), tmp_path / "model.pt")
    texts, labels = CLIENTS["client0"]
    torch.save(dict(update_of(target, texts, labels).change), tmp_path / "client0.pt")
    rows = [f"{text},{'abc'[label]}" for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    asked = ("updates", "model.pt", "client0.pt", "--texts", "texts.csv", "--write-texts", "found.jsonl", "-f", "json")
    result = redteam(*asked)
    assert result.returncode == 1, result.stderr
    assert not any(text in result.stdout + result.stderr for text in texts)
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert {(one["text"], one["label"], one["verified"]) for one in found} == {
        (text, "abc"[label], True) for text, label in zip(texts, labels, strict=True)
    }
    assert (tmp_path / "found.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_command_refuses_another_models_update(redteam, tmp_path):
    save_bundle(random_bundle(), tmp_path / "model.pt")
    torch.save({"other": torch.ones(3)}, tmp_path / "client0.pt")
    (tmp_path / "texts.csv").write_text("text,label\nw1 w2,a\nw3,b\n")
    result = redteam("updates", "model.pt", "client0.pt", "--texts", "texts.csv")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "is no parameter of" in result.stderr
