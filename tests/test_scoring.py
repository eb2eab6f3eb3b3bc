"""Each text is asked for once, and what was answered before an interruption is not asked for again."""

import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, RuleTarget, sentences

from redteam.auditing import scoring
from redteam.auditing.scoring import ScoreCache
from redteam.core import TargetError
from redteam.data import Examples
from redteam.targets.target import Access, Target

POOL = sentences(1200, seed=1)


@pytest.fixture(autouse=True)
def _chunks_of_a_known_size(monkeypatch):
    monkeypatch.setattr(scoring, "_CHUNK", 512)


def files(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


class Dying(RuleTarget):
    """Answers `lives` times, then raises."""

    def __init__(self, lives, error=KeyboardInterrupt, **options):
        super().__init__(**options)
        self.lives, self.error = lives, error

    def log_probabilities(self, examples):
        if self.lives == 0:
            raise self.error
        self.lives -= 1
        return super().log_probabilities(examples)


class LabelsOnly(RuleTarget):
    access = Access.LABELS

    def log_probabilities(self, examples):
        raise TargetError("labels only")

    def predict(self, examples):
        return RuleTarget.log_probabilities(self, examples).argmax(axis=1)


class Growing(LabelsOnly):
    """Learns its labels from what it answers, as an endpoint without a list of labels does."""

    def __init__(self, lives=-1):
        super().__init__(labels=("a", "b", "c"))
        self.all, self.labels, self.lives = self.labels, (), lives

    def predict(self, examples):
        if self.lives == 0:
            raise KeyboardInterrupt
        self.lives -= 1
        self.labels, own = self.all, self.labels
        answers = super().predict(examples)
        self.labels = self.all[: max(len(own), answers.max() + 1)]
        return answers


class TestOnce:
    def test_however_many_ask(self):
        target = RuleTarget(POOL.take(range(100)))
        cache = ScoreCache(target)
        assert isinstance(cache, Target)
        first = cache.log_probabilities(POOL)
        assert np.array_equal(first, RuleTarget(POOL.take(range(100))).log_probabilities(POOL))
        assert np.array_equal(cache.losses(POOL), target.losses(POOL))
        target.asked.clear()
        assert np.array_equal(cache.predict(POOL), first.argmax(axis=1))
        assert np.array_equal(cache.log_probabilities(POOL.take([5, 3, 5])), first[[5, 3, 5]])
        assert target.asked == []
        more = sentences(10, seed=2)
        both = Examples(np.arange(12), (*(POOL.texts or ())[:2], *(more.texts or ())))
        assert np.array_equal(cache.log_probabilities(both)[:2], first[:2])
        assert sorted(target.asked) == sorted(more.texts or ())

    def test_repeated_texts_each_get_their_own_answer(self):
        target = RuleTarget()
        rows = Examples(np.arange(5), ("a", "a", "b", "a", "c"))
        expected = RuleTarget().log_probabilities(rows)
        cache = ScoreCache(target)
        assert np.array_equal(cache.log_probabilities(rows), expected)
        assert sorted(target.asked) == ["a", "b", "c"]
        assert np.array_equal(cache.log_probabilities(rows.take([4, 2, 0])), expected[[4, 2, 0]])

    def test_labels_only(self):
        target = LabelsOnly()
        cache = ScoreCache(target)
        assert np.array_equal(cache.predict(POOL), RuleTarget().predict(POOL))
        target.asked.clear()
        cache.predict(POOL)
        assert target.asked == []
        with pytest.raises(TargetError, match="labels only"):
            cache.log_probabilities(POOL)

    def test_labels_that_grow_are_seen(self):
        cache = ScoreCache(Growing())
        assert cache.labels == ()
        cache.predict(POOL)
        assert cache.labels == ("a", "b", "c")

    def test_scores_without_texts_pass_through(self):
        class Saved(LabelsOnly):
            def predict(self, examples):
                return examples.rows % 3

        assert ScoreCache(Saved()).predict(Examples(np.arange(5))).tolist() == [0, 1, 2, 0, 1]

    def test_progress_and_what_is_passed_on(self):
        seen = []
        target = RuleTarget()
        target.model = "weights"
        cache = ScoreCache(target, progress=lambda done, total: seen.append((done, total)))
        cache.log_probabilities(POOL)
        assert seen == [(512, 1200), (1024, 1200), (1200, 1200)]
        assert cache.model == "weights"
        with pytest.raises(AttributeError):
            _ = cache.nothing

    def test_nothing_to_score(self):
        assert ScoreCache(RuleTarget()).log_probabilities(POOL.take([])).shape == (0, 3)

    def test_no_copying_of_everything_for_each_chunk(self, monkeypatch):
        class Instant(RuleTarget):
            batch_size = 1

            def log_probabilities(self, examples):
                return np.zeros((len(examples), 3))

        rows, taken, take = Examples(np.arange(4000), tuple(map(str, range(4000)))), [], Examples.take

        def counted(examples, index):
            taken.append(len(index))
            return take(examples, index)

        monkeypatch.setattr(Examples, "take", counted)
        ScoreCache(Instant()).log_probabilities(rows)
        assert 4000 <= sum(taken) <= 3 * 4000


class TestInterruptions:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, TargetError("down"), MemoryError])
    def test_only_the_rest_is_asked_again(self, tmp_path, error):
        expected = RuleTarget().log_probabilities(POOL)
        dying = Dying(2, error)
        with pytest.raises((KeyboardInterrupt, TargetError, MemoryError)):
            ScoreCache(dying, folder=tmp_path / "kept").log_probabilities(POOL)
        (part,) = (tmp_path / "kept").iterdir()
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
        again = RuleTarget()
        cache = ScoreCache(again, folder=tmp_path / "kept")
        assert np.array_equal(cache.log_probabilities(POOL), expected)
        assert cache.resumed == 1024
        checked, rest = again.asked[:20], again.asked[20:]
        assert sorted(rest + dying.asked) == sorted(POOL.texts or ())
        assert set(checked) < set(dying.asked)
        assert files(tmp_path) == []

    def test_killed(self, tmp_path):
        program = """
import os, signal, sys
from pathlib import Path
from conftest import RuleTarget, sentences
from redteam.auditing import scoring
scoring._KEEP_EVERY, scoring._CHUNK = -1.0, 512
class Killed(RuleTarget):
    def log_probabilities(self, examples):
        if len(self.asked) >= 1024:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().log_probabilities(examples)
scoring.ScoreCache(Killed(), folder=Path(sys.argv[1])).log_probabilities(sentences(1200, seed=1))
"""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}/tests"}
        end = subprocess.run([sys.executable, "-c", program, tmp_path], env=environment, check=False)
        assert end.returncode == -signal.SIGKILL
        again = RuleTarget()
        cache = ScoreCache(again, folder=tmp_path)
        assert np.array_equal(cache.log_probabilities(POOL), RuleTarget().log_probabilities(POOL))
        assert cache.resumed == 1024
        assert len(again.asked) == 20 + 1200 - 1024  # a sample of what was kept is asked again
        assert files(tmp_path) == []

    def interrupted(self, folder, target=None, pool=POOL):
        with pytest.raises(KeyboardInterrupt):
            ScoreCache(target or Dying(1), folder=folder).log_probabilities(pool)

    @pytest.mark.parametrize(
        "other",
        [
            lambda: (RuleTarget(name="other"), POOL),
            lambda: (RuleTarget(labels=("a", "b", "d")), POOL),
            lambda: (RuleTarget(), POOL.take(range(1199))),
            lambda: (type("Digest", (RuleTarget,), {"digest": "1"})(), POOL),
            lambda: (type("Address", (RuleTarget,), {"identity": "another user"})(), POOL),
        ],
    )
    def test_another_target_or_pool_starts_anew(self, tmp_path, other):
        self.interrupted(tmp_path)
        target, pool = other()
        cache = ScoreCache(target, folder=tmp_path)
        cache.log_probabilities(pool)
        assert cache.resumed == 0
        assert len(target.asked) == len(pool)
        assert len(files(tmp_path)) == 1

    def test_the_order_of_the_pool_does_not_matter(self, tmp_path):
        self.interrupted(tmp_path)
        order = np.random.default_rng(0).permutation(1200)
        cache = ScoreCache(RuleTarget(), folder=tmp_path)
        assert np.array_equal(
            cache.log_probabilities(POOL.take(order)), RuleTarget().log_probabilities(POOL.take(order))
        )
        assert cache.resumed == 512

    @pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x93NUMPY\x01\x00", None])
    def test_a_broken_part_file_is_none(self, tmp_path, content):
        self.interrupted(tmp_path)
        (part,) = tmp_path.iterdir()
        whole = part.read_bytes()
        part.write_bytes(whole[: len(whole) // 2] if content is None else content)
        cache = ScoreCache(RuleTarget(), folder=tmp_path)
        assert np.array_equal(cache.log_probabilities(POOL), RuleTarget().log_probabilities(POOL))
        assert cache.resumed == 0

    @pytest.mark.parametrize("shape", [(1201, 3), (5, 2), (5,), (5, 3, 1)])
    def test_a_part_file_of_another_shape_is_none(self, tmp_path, shape):
        self.interrupted(tmp_path)
        (part,) = tmp_path.iterdir()
        np.save(part, np.zeros(shape))
        cache = ScoreCache(RuleTarget(), folder=tmp_path)
        cache.log_probabilities(POOL)
        assert cache.resumed == 0

    def test_a_part_file_is_never_unpickled(self, tmp_path):
        self.interrupted(tmp_path)
        (part,) = tmp_path.iterdir()
        np.save(part, np.array([[os]], dtype=object).astype(str).astype(object), allow_pickle=True)
        cache = ScoreCache(RuleTarget(), folder=tmp_path)
        cache.log_probabilities(POOL)
        assert cache.resumed == 0

    def test_what_a_target_without_digest_said_days_ago_is_asked_again(self, tmp_path):
        for digest, resumed in ((None, 0), ("same weights", 512)):
            kind = type("Kind", (Dying,), {"digest": digest})
            self.interrupted(tmp_path, kind(1))
            (part,) = tmp_path.iterdir()
            os.utime(part, (time.time() - 200_000,) * 2)
            cache = ScoreCache(kind(-1), folder=tmp_path)
            cache.log_probabilities(POOL)
            assert cache.resumed == resumed
            assert files(tmp_path) == []

    def test_numbers_of_labels_that_grew_are_not_kept(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            ScoreCache(Growing(lives=2), folder=tmp_path).predict(POOL)
        assert files(tmp_path) == []
        cache = ScoreCache(Growing(), folder=tmp_path)
        assert np.array_equal(cache.predict(POOL), RuleTarget().predict(POOL))


class TestAskingAgain:
    """What was kept is used only as long as the target still says it."""

    def kept(self, folder, target=None, call="log_probabilities"):
        with pytest.raises(KeyboardInterrupt):
            getattr(ScoreCache(target or Dying(2), folder=folder), call)(POOL)

    def taken_up(self, folder, target, call="log_probabilities", **options):
        said = []
        cache = ScoreCache(target, folder=folder, tell=said.append, **options)
        return cache, getattr(cache, call)(POOL), said

    def test_it_is_said_how_many_are_used_and_from_when(self, tmp_path):
        self.kept(tmp_path)
        (part,) = tmp_path.iterdir()
        day = time.strftime("%Y-%m-%d", time.localtime(part.stat().st_mtime))
        cache, _, said = self.taken_up(tmp_path, RuleTarget())
        assert cache.resumed == 1024
        (line,) = said
        assert line.startswith(f"re-using 1,024 of 1,200 answers, kept on {day} ")
        assert line.endswith("20 of them were asked again and are the same; --restart asks for all")

    def test_another_model_under_the_same_name_drops_all(self, tmp_path):
        self.kept(tmp_path)
        other = RuleTarget(seed=1)
        cache, answers, said = self.taken_up(tmp_path, other)
        assert np.array_equal(answers, RuleTarget(seed=1).log_probabilities(POOL))
        assert cache.resumed == 0
        assert len(said) == 1
        assert "1,024 answers kept on " in said[0]
        assert "are dropped: rule answers otherwise now" in said[0]
        assert files(tmp_path) == []

    @pytest.mark.parametrize(("noise", "resumed"), [(1e-5, 1024), (1e-2, 0)])
    def test_rounding_is_no_difference(self, tmp_path, noise, resumed):
        class Noisy(RuleTarget):
            def log_probabilities(self, examples):
                return super().log_probabilities(examples) + noise

        self.kept(tmp_path)
        assert self.taken_up(tmp_path, Noisy())[0].resumed == resumed

    def test_one_wrong_answer_among_those_asked_is_enough(self, tmp_path):
        class Odd(RuleTarget):
            calls = 0

            def log_probabilities(self, examples):
                self.calls += 1
                values = super().log_probabilities(examples)
                if self.calls == 1:
                    values[3] = values[3][::-1]
                return values

        self.kept(tmp_path)
        assert self.taken_up(tmp_path, Odd())[0].resumed == 0

    def test_labels_alone(self, tmp_path):
        class Ending(LabelsOnly):
            lives = 2

            def predict(self, examples):
                if not self.lives:
                    raise KeyboardInterrupt
                self.lives -= 1
                return super().predict(examples)

        for seed, resumed in ((0, 1024), (1, 0)):
            self.kept(tmp_path, Ending(), "predict")
            cache, answers, _ = self.taken_up(tmp_path, LabelsOnly(seed=seed), "predict")
            assert cache.resumed == resumed
            assert np.array_equal(answers, RuleTarget(seed=seed).predict(POOL))

    @pytest.mark.parametrize("call", ["predict", "log_probabilities"])
    def test_a_model_that_changed_few_coarse_answers_is_seen(self, tmp_path, call):
        """One answer in sixteen is another, as between a model that leaks at AUC 0.55 and one that does not."""

        class Coarse(LabelsOnly):
            lives, changed = 2, 0
            access = Access.LABELS if call == "predict" else Access.PROBABILITIES

            def predict(self, examples):
                if not self.lives:
                    raise KeyboardInterrupt
                self.lives -= 1
                return np.array(
                    [0 if int(text.encode().hex(), 16) % 20 >= self.changed else 1 for text in examples.texts]
                )

            def log_probabilities(self, examples):
                return np.log(np.where(self.predict(examples)[:, None] == np.arange(len(self.labels)), 1.0, 1e-40))

        for changed, resumed in ((0, 1024), (1, 0)):
            self.kept(tmp_path, Coarse(), call)
            target = Coarse()
            target.lives, target.changed = 9, changed
            cache, _, said = self.taken_up(tmp_path, target, call)
            assert cache.resumed == resumed
            assert changed or "128 of them were asked again" in said[0]

    def test_restart_forgets(self, tmp_path):
        self.kept(tmp_path)
        target = RuleTarget()
        cache, _, said = self.taken_up(tmp_path, target, restart=True)
        assert (cache.resumed, said, sorted(target.asked)) == (0, [], sorted(POOL.texts))
        assert files(tmp_path) == []

    def test_an_interruption_of_the_second_attempt_keeps_the_first(self, tmp_path):
        self.kept(tmp_path)
        self.kept(tmp_path, Dying(0))
        assert self.taken_up(tmp_path, RuleTarget())[0].resumed == 1024

    def test_asking_again_is_in_the_budget(self, tmp_path):
        class Counted(Dying):
            asked_for = None

            def check_budget(self, texts, *, again=0):
                self.asked_for = (texts, again)
                raise TargetError("too few requests are left")

        self.kept(tmp_path, type("Counted", (Dying,), {})(2))
        target = Counted(0)
        with pytest.raises(TargetError, match="too few"):
            self.taken_up(tmp_path, target)
        assert target.asked_for == (176, 20)
        assert target.asked == []


class TestFolders:
    def score(self, folder, monkeypatch):
        monkeypatch.setattr(scoring, "_KEEP_EVERY", -1.0)
        assert np.isfinite(ScoreCache(RuleTarget(), folder=folder).log_probabilities(POOL)).all()

    def test_missing_and_none(self, tmp_path, monkeypatch):
        self.score(tmp_path / "a" / "b", monkeypatch)
        assert files(tmp_path) == []
        self.score(None, monkeypatch)

    def test_not_writable(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        self.score(tmp_path / "file", monkeypatch)
        self.score(tmp_path / "file" / "below", monkeypatch)

        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        for call in ("pathlib.Path.mkdir", "pathlib.Path.open", "pathlib.Path.unlink"):
            with monkeypatch.context() as patch:
                patch.setattr(call, refuse)
                self.score(tmp_path / "folder", monkeypatch)

    def test_a_full_disk_while_keeping(self, tmp_path, monkeypatch):
        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(scoring, "save_atomic", full)
        self.score(tmp_path, monkeypatch)
