"""Training stands in the cohort's ledger before it reads a patient, once, or does not run at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import make_tiny_cohort

from anonsynth.cohort.model import LabelEntry, ScanRecord
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.errors import InputError, VerdictError
from anonsynth.policies.model import Policy, SynthesisRules, load_policy
from anonsynth.privacy.declare import LEDGER_FILE, ledger_of
from anonsynth.progress import Progress
from anonsynth.synthesis import train as training
from anonsynth.synthesis.label_source import LabelSource
from anonsynth.synthesis.model import open_model
from anonsynth.synthesis.settings import PerformanceSettings, PriorChoice, TrainSettings
from anonsynth.synthesis.vocabulary import Vocabulary

ONE_STEP = TrainSettings(steps=1, label_steps=1, batch=1, width=8, style=2, crop_voxels=5_000)
STRICT = Policy(id="strict", title="strict", description="strict", synthesis=SynthesisRules(guarantee=True))


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return make_tiny_cohort(tmp_path / "Doe_Jane" / "cohort", patients=4, holdout=1)


def train(cohort: Cohort, out: Path, policy: Policy | None = None, **more: bool) -> Path:
    with Progress(quiet=True) as progress:
        return training.train(
            cohort,
            ONE_STEP,
            policy or load_policy("internal"),
            out,
            PerformanceSettings(device="cpu", checkpoint_seconds=0),
            progress,
            **more,
        )


def declared(cohort: Cohort) -> list[str]:
    return [entry.id.partition(" internal ")[2] for entry in ledger_of(cohort.folder).read().entries]


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what reads no patient and takes its time."""
    monkeypatch.setattr(training, "_prices", lambda *_: ())
    monkeypatch.setattr(training, "training_picture", lambda *_: None)
    monkeypatch.setattr(training, "_fixed_samples", lambda *_: [])


READING = {
    "choose_label_source": "choice",
    "prepare_class_maps": "shape prior",
    "_measure_styles": "styles",
    "_train_label_network": "label network",
    "train_label_to_mri": "generator",
}
"""What reads patients, in the order in which it runs, and the step that has to stand in the ledger by then."""


@pytest.mark.usefixtures("light")
def test_every_step_is_declared_before_it_reads_and_once_however_often_it_is_resumed(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watch(name: str, step: str) -> None:
        work = getattr(training, name)

        def watched(*given: Any, **named: Any) -> object:
            assert step in declared(cohort)
            if seen == [*READING][:2] and name == "_measure_styles":
                seen.append("killed")
                raise KilledError
            seen.append(name)
            return work(*given, **named)

        monkeypatch.setattr(training, name, watched)

    for name, step in READING.items():
        watch(name, step)
    read = Cohort.load

    def load(self: Cohort, record: ScanRecord) -> Scan:
        assert declared(cohort), "a scan was read before anything was declared"
        return read(self, record)

    monkeypatch.setattr(Cohort, "load", load)
    with pytest.raises(KilledError):
        train(cohort, tmp_path / "model", both_directions=True)
    before = declared(cohort)
    assert sorted(before) == sorted(READING.values()), "the ledger says at least what was spent"
    out = train(cohort, tmp_path / "model", both_directions=True)
    assert seen == [*[*READING][:2], "killed", *READING]
    train(cohort, out, both_directions=True)
    assert declared(cohort) == before
    line = "no guarantee: 5 steps without a mechanism"
    assert open_model(out).ledger == line
    assert f"\nIn the cohort's ledger when training ended: {line}.\n" in (out / "model_card.md").read_text("utf-8")
    with pytest.raises(VerdictError, match="this training"):
        train(cohort, out, STRICT)  # finished or not: it was trained without a mechanism
    assert b"Doe" not in (cohort.folder / LEDGER_FILE).read_bytes()


def test_what_is_declared_follows_from_what_is_read() -> None:
    def names(**source: Any) -> set[str]:
        labels = (LabelEntry(value=1, name="body"),)
        context = source.pop("context", 1)
        chosen = LabelSource(reason="a test", vocabulary=Vocabulary(context=context, labels=labels), **source)
        return {step.name for step in training._steps(chosen, both_directions=False)}

    assert names(prior=PriorChoice.ATLAS) == {"styles", "generator"}
    assert names(prior=PriorChoice.SHAPE) == {"shape prior", "styles", "generator"}
    # Only where surroundings are modelled does the last stage measure training scans.
    assert names(prior=PriorChoice.SHAPE, context=6) == {"shape prior", "styles", "generator", "finish"}


def test_a_policy_that_asks_for_a_guarantee_refuses_training(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match="asks for a guarantee and this training has no mechanism"):
        train(cohort, tmp_path / "model", STRICT)
    assert not (tmp_path / "model").exists()
    assert not (cohort.folder / LEDGER_FILE).exists()


def test_a_training_that_cannot_declare_does_not_run(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cohort.folder / LEDGER_FILE).mkdir()  # a read-only folder is no obstacle to the root user of a test machine

    def load(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Cohort, "load", load)
    with pytest.raises(InputError, match="must not run; make the cohort's folder writable") as caught:
        train(cohort, tmp_path / "model")
    assert "Doe" not in str(caught.value)
