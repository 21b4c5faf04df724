"""The attack on a model's weights: one that knows its training patients by heart is caught, a fresh one is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tiny_cohort

from anonsynth.anatomy.priors import Guarantee
from anonsynth.audits import generator_attack as attack
from anonsynth.audits.finding import Finding, Verdict
from anonsynth.audits.loading import check_model
from anonsynth.audits.nearest import cohort_queries
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort
from anonsynth.errors import InputError, UsageError
from anonsynth.files import sha256_file, write_json
from anonsynth.policies.model import AuditRules
from anonsynth.progress import Progress
from anonsynth.synthesis.checkpoint import save_weights
from anonsynth.synthesis.device import pick_device
from anonsynth.synthesis.label_source import LabelSource
from anonsynth.synthesis.label_to_mri import LabelToMRI, render
from anonsynth.synthesis.model import GENERATOR_FILE, MODEL_FILE, ModelInfo, hash_weights, open_model
from anonsynth.synthesis.preparation import class_map_maker
from anonsynth.synthesis.settings import PriorChoice, TrainSettings
from anonsynth.synthesis.style import fit_styles, measure_colours
from anonsynth.synthesis.vocabulary import Vocabulary

QUIET = Progress(quiet=True)


@pytest.fixture(autouse=True)
def _one_painting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "PAINTINGS", 1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_tiny_cohort(tmp_path_factory.mktemp("attacked") / "cohort", patients=19, holdout=6, seed=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, cohort: Cohort) -> Path:
    """A model whose colours were measured and whose translator has not begun to learn."""
    out = tmp_path_factory.mktemp("model")
    settings = TrainSettings(steps=1, width=8, style=2)
    source = LabelSource(
        prior=PriorChoice.ATLAS, reason="a test", vocabulary=Vocabulary(context=1, labels=cohort.info.labels)
    )
    networks = LabelToMRI.new(source.vocabulary, 2, settings)
    maker = class_map_maker(cohort, source, out, settings, pick_device("cpu"))
    measured = []
    for record in cohort.of(Split.TRAIN):
        scan, classes = cohort.load(record), maker(record)
        known = np.broadcast_to(scan.present[:, None, None, None] & (classes > 0), scan.image.shape)
        measured.append(measure_colours(scan.image, known, classes, source.vocabulary.classes))
    networks.take(fit_styles(measured, settings.style))
    save_weights(out / GENERATOR_FILE, networks.mean)
    info = ModelInfo(
        anonsynth="0",
        settings=settings,
        settings_sha256="0" * 64,
        policy="internal",
        modalities=cohort.info.modalities,
        grid=cohort.info.grid,
        source=source,
        guarantee=Guarantee.NONE,
        border_stray=0.0,
        unprotected=(),
        patients=13,
        scans=13,
        prices=(),
        cohort_sha256=sha256_file(cohort.folder / "scans.tsv"),
        weights_sha256=hash_weights(out),
        seconds=0.0,
        machine="a test",
    )
    write_json(out / MODEL_FILE, info.model_dump(mode="json", by_alias=True))
    return out


def attacked(cohort: Cohort, model: Path) -> tuple[Finding, Finding]:
    sides = (cohort_queries(cohort, cohort.of(split)) for split in (Split.TRAIN, Split.HOLDOUT))
    answer = attack.generator_attack(model, cohort, *sides, AuditRules(min_holdout_patients=5), 0, QUIET)
    assert len(answer.plots) == 1
    first, second = answer.findings
    return first, second


def test_a_model_that_has_hardly_begun_to_learn_betrays_nobody(cohort: Cohort, model: Path) -> None:
    found = attacked(cohort, model)
    assert [finding.id for finding in found] == ["reconstruction", "reconstruction-few"]
    assert {finding.verdict for finding in found} == {Verdict.PASS}, found


def test_a_model_that_knows_its_patients_by_heart_is_caught(
    cohort: Cohort, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = open_model(model)
    maker = class_map_maker(cohort, info.source, model, info.settings, pick_device("cpu"))
    known = {maker(record).tobytes(): cohort.load(record).image for record in cohort.of(Split.TRAIN)}

    def remembered(*arguments: torch.Tensor) -> torch.Tensor:
        painted = render(*arguments)
        own = known.get(arguments[1].numpy().astype(np.uint8).tobytes())
        return painted if own is None else 0.7 * painted + 0.3 * torch.from_numpy(own)[None]

    monkeypatch.setattr(attack, "render", remembered)
    found = attacked(cohort, model)
    assert {finding.verdict for finding in found} == {Verdict.FAIL}, found
    assert found[0].ci is not None
    assert found[0].ci[0] > 0.5


def test_a_model_of_another_cohort_is_refused_in_one_sentence(
    tmp_path: Path, cohort: Cohort, model: Path, tiny_cohort: Cohort
) -> None:
    assert any("generator" in line for line in check_model(model, cohort))
    with pytest.raises(InputError, match="trained on another cohort"):
        check_model(model, tiny_cohort)
    with pytest.raises(UsageError, match="--cohort"):
        check_model(model, None)
    info = open_model(model)
    shaped = info.source.model_copy(update={"prior": PriorChoice.SHAPE})
    with pytest.raises(InputError, match=r"lacks .*safetensors; train"):
        class_map_maker(cohort, shaped, tmp_path, info.settings, pick_device("cpu"))


def test_a_painting_is_compared_within_classes() -> None:
    rng = np.random.default_rng(0)
    classes = np.ones((6, 6, 6), np.uint8)
    classes[3:] = 2
    known = np.ones((1, 6, 6, 6), bool)
    detail = rng.normal(size=(1, 6, 6, 6)).astype(np.float32) * 0.05
    flat = np.where(classes == 1, 0.3, 0.7)[None].astype(np.float32)
    same = attack.compare_painting(flat + detail, flat + detail / 2, known, classes, 3)
    other = attack.compare_painting(flat + detail, flat - detail / 2, known, classes, 3)
    assert same[1] == pytest.approx(1, abs=1e-3)
    assert other[1] == pytest.approx(-1, abs=1e-3)
    assert other[0] - same[0] == pytest.approx(np.log(3), abs=1e-3)
    assert same[2] == other[2] == pytest.approx(np.log(np.abs(detail).mean()), abs=0.05)
