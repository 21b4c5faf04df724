"""Rung 2's votes: one a patient, for what her scans look like, worth 1 in the sum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tiny_cohort

from anonsynth.cohort.store import Cohort
from anonsynth.privacy.events import Gaussian
from anonsynth.privacy.per_patient import Items
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.private_patients import PatientScans
from anonsynth.synthesis.private_plan import Extra, Facts, make_plan
from anonsynth.synthesis.private_writer import Manner, in_manner
from anonsynth.synthesis.selection import CANDIDATES, Booth, features
from anonsynth.synthesis.style import StyleSpace
from anonsynth.synthesis.texture import WIDTHS
from anonsynth.synthesis.vocabulary import Vocabulary

COLOURS = np.array([[0, 0.2, 0.5, 0.8], [0, 0.3, 0.7, 0.4]], np.float32)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return make_tiny_cohort(tmp_path / "cohort", patients=5, holdout=2)


def scans_of(cohort: Cohort, folder: Path) -> PatientScans:
    styles = StyleSpace(COLOURS, np.zeros((2, *COLOURS.shape), np.float32), np.full(COLOURS.shape, 0.5, np.float32))

    def class_map(record):
        scan = cohort.load(record)
        return (scan.label + 1).astype(np.uint8)

    records = tuple(record for record in cohort.records if record.split == "train")
    return PatientScans(cohort, records, class_map, folder, styles, cohort.info.grid.shape)


def vocabulary(cohort: Cohort) -> Vocabulary:
    return Vocabulary(context=1, labels=cohort.info.labels)


def writer() -> PaintedTranslator:
    generator = PaintedTranslator(4, 2, width=8, style=2).requires_grad_(requires_grad=False)
    generator.painter.mean.copy_(torch.from_numpy(COLOURS))
    generator.grain.strength.fill_(0.01)
    generator.texture.take(np.full((len(WIDTHS), 2, 4), 0.02, np.float32), (2.0, 2.0, 2.0))
    return generator


def test_a_patient_whose_scans_are_a_candidates_votes_for_it(cohort: Cohort, tmp_path: Path) -> None:
    scans, words = scans_of(cohort, tmp_path / "maps"), vocabulary(cohort)
    booth = Booth.of(scans, writer(), words, 0)
    truth = 0
    for index, candidate in enumerate(CANDIDATES):
        other = in_manner(writer(), candidate)

        class Simulated(PatientScans):
            def scans(self, patient: str) -> list[Items]:
                found = []
                for items in super().scans(patient):
                    noise = torch.Generator().manual_seed(99)
                    image = render(other, items["classes"], items["place"], items["style"], words, noise)  # noqa: B023
                    found.append({**items, "image": image, "known": torch.ones_like(image)})
                return found

        voters = Simulated(scans.cohort, scans.records, scans.class_map, scans.folder, scans.styles, scans.crop)
        truth += int(replace(booth, scans=voters).vote(scans.patients[0]).argmax()) == index
    assert truth >= 7, "patients do not find the candidate that wrote their scans"


def test_one_patient_is_one_vote_however_many_scans(cohort: Cohort, tmp_path: Path) -> None:
    scans, words = scans_of(cohort, tmp_path / "maps"), vocabulary(cohort)
    booth = Booth.of(scans, writer(), words, 0)
    everyone = booth.votes()
    assert all(vote.sum() == 1 and set(vote) <= {0.0, 1.0} for vote in everyone.values())
    total = sum(everyone.values())
    others = tuple(record for record in scans.records if record.patient != scans.patients[0])
    rest = replace(booth, scans=replace_records(scans, others)).votes()
    assert np.linalg.norm(total - sum(rest.values())) == 1, "one patient less is not one vote less"
    one = tuple(record.model_copy(update={"patient": "P0001"}) for record in scans.records)
    votes = replace(booth, scans=replace_records(scans, one)).votes()
    assert list(votes) == ["P0001"]
    assert np.linalg.norm(votes["P0001"]) == 1


def replace_records(scans: PatientScans, records) -> PatientScans:
    return PatientScans(scans.cohort, records, scans.class_map, scans.folder, scans.styles, scans.crop)


def test_the_count_of_votes_has_the_noise_that_the_plan_paid_for() -> None:
    plan = make_plan(Facts(500, (24, 28, 20), 6, 2, 2, shaped=True), 2.0, None, Extra(0.1, candidates=9))
    votes = plan.query("votes")
    assert votes.bound == 1
    assert votes.size == len(CANDIDATES) == 9
    assert Gaussian(noise_multiplier=votes.noise_multiplier) in plan.events


def test_features_tell_soft_from_steep_and_mottled_from_plain() -> None:
    classes = np.ones((12, 12, 12), np.uint8)
    classes[6:] = 2
    steep = np.where(classes == 2, 0.8, 0.2).astype(np.float32)
    soft = np.clip(np.linspace(-0.6, 1.6, 12), 0.2, 0.8)[:, None, None] * np.ones((12, 12, 12), np.float32)
    mottled = steep + np.random.default_rng(0).normal(0, 0.05, steep.shape).astype(np.float32)
    a, b, c = (features(image.astype(np.float32), classes, 3, (1.0, 1.0, 1.0)) for image in (steep, soft, mottled))
    assert a[0] > 2 * b[0]
    assert c[1] > a[1] + 0.5
    assert Manner() in CANDIDATES, "rung 1's own manner is no candidate"
