"""The questions about whole cohorts see the leaks that they are asked about, and fail nobody who leaks nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import make_tiny_cohort

from anonsynth.anatomy.fields import smooth_field
from anonsynth.audits.answer import QUESTIONS, level_of, weigh
from anonsynth.audits.blind import blind_p
from anonsynth.audits.controls import draw_patients
from anonsynth.audits.finding import Finding, Verdict
from anonsynth.audits.index import build_index
from anonsynth.audits.linkage import linkage, smallest_linked_share
from anonsynth.audits.membership import membership
from anonsynth.audits.nearest import Query, cohort_queries
from anonsynth.audits.points import FloatMatrix
from anonsynth.audits.population import Part, Population, Views, build_population, common_modalities
from anonsynth.audits.residual_risk import Successes
from anonsynth.audits.scoring import one_scan_per_patient
from anonsynth.audits.second_view import second_acquisition
from anonsynth.audits.set_level import set_level
from anonsynth.audits.views import ViewGrid
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort, Scan, save_scan
from anonsynth.policies.model import AuditRules
from anonsynth.progress import Progress

RULES = AuditRules()
QUIET = Progress(quiet=True)
WIDTH = 20


def patients(count: int, rng: np.random.Generator) -> FloatMatrix:
    return rng.normal(size=(count, WIDTH)) * np.linspace(2, 0.5, WIDTH)


def population(
    train: FloatMatrix,
    holdout: FloatMatrix,
    generated: FloatMatrix,
    seed: int = 0,
    copied: npt.NDArray[np.intp] | None = None,
) -> Population:
    """Points as if a scan were a vector; its halves are the even and the odd features; volumes are apart from all that.

    Args:
        train: (P, D).
        holdout: (H, D).
        generated: (G, D).
        seed: Of everything else.
        copied: (G,) whose volume each generated scan has; None for volumes of its own.
    """
    rng = np.random.default_rng([seed, 9])
    volumes = [rng.uniform(1, 9, (len(side), 1)) for side in (train, holdout, generated)]
    if copied is not None:
        volumes[2] = volumes[0][copied]
    again = [side + rng.normal(size=side.shape) * 0.15 for side in (train, holdout)]
    return Population(
        Part(train, holdout, generated),
        tuple(f"T{n}" for n in range(len(train))),
        tuple(f"H{n}" for n in range(len(holdout))),
        ("T1w",),
        0,
        Views(
            Part(train[:, ::2], holdout[:, ::2], generated[:, ::2]),
            Part(again[0][:, 1::2], again[1][:, 1::2], generated[:, 1::2]),
            Part(again[0], again[1], generated),
            Part(volumes[0], volumes[1], volumes[2]),
            ("tumour",),
        ),
    )


def ask(people: Population, rules: AuditRules = RULES) -> dict[str, Finding]:
    answers = (set_level(people, rules, 0), membership(people, rules, 0), linkage(people, rules, 0))
    for answer in answers:
        for plot in answer.plots:
            assert plot.image.startswith("data:image/png;base64,")
            assert "Bad" in plot.caption
    return {finding.id: finding for answer in answers for finding in answer.findings}


def failed(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.verdict is Verdict.FAIL}


def test_a_generator_of_its_own_fails_nothing() -> None:
    for seed in range(2):
        rng = np.random.default_rng(seed)
        found = ask(population(patients(80, rng), patients(25, rng), patients(60, rng), seed))
        assert {finding.verdict for finding in found.values()} == {Verdict.PASS}, found
        assert "would" in found["membership"].limits


def test_copies_of_half_the_training_patients_are_caught_by_every_question() -> None:
    rng = np.random.default_rng(5)
    train, holdout = patients(80, rng), patients(25, rng)
    copies = train[np.arange(60) % 40]
    found = ask(population(train, holdout, copies + rng.normal(size=copies.shape) * 0.15, copied=np.arange(60) % 40))
    assert failed(found) >= {"data-copying", "membership", "membership-few", "linkage", "singling-out"}
    least = found["membership"].ci
    assert least is not None
    assert least[0] > 0.5
    assert found["authenticity"].value == 0
    assert found["authenticity"].verdict is Verdict.PASS


def test_the_volumes_of_copied_patients_are_inferred() -> None:
    rng = np.random.default_rng(4)
    train, holdout = patients(80, rng), patients(25, rng)
    copies = train + rng.normal(size=train.shape) * 0.1
    answer = linkage(population(train, holdout, copies, copied=np.arange(80)), RULES, 0)
    found = {finding.id: finding for finding in answer.findings}
    assert failed(found) >= {"linkage", "inference", "singling-out"}
    worst = found["inference"]
    assert worst.ci is not None
    assert worst.ci[0] > 0.3
    assert "by guessing" in worst.limits


def test_a_smooth_generator_that_copies_nobody_has_a_low_ct_and_passes() -> None:
    rng = np.random.default_rng(6)
    found = ask(population(patients(80, rng), patients(30, rng), 0.3 * patients(100, rng)))
    copying = found["data-copying"]
    assert copying.value is not None
    assert copying.value < -4
    assert "p = 0.0001" in copying.limits
    assert failed(found) == set()
    assert found["authenticity"].value is not None
    assert found["authenticity"].value < 0.1


def test_a_holdout_of_other_people_proves_nothing_and_is_not_called_a_leak() -> None:
    rng = np.random.default_rng(7)
    found = ask(population(patients(80, rng), patients(30, rng) * 2.5, patients(60, rng)))
    assert failed(found) == set()
    for name in ("data-copying", "membership", "membership-few", "linkage", "inference", "singling-out"):
        assert found[name].verdict is Verdict.INCONCLUSIVE, name
        assert "real scans only" in found[name].limits


def test_few_holdout_patients_are_inconclusive() -> None:
    rng = np.random.default_rng(8)
    found = ask(population(patients(30, rng), patients(6, rng), patients(30, rng)))
    asked = {name: finding for name, finding in found.items() if name not in {"authenticity", "variety"}}
    assert {finding.verdict for finding in asked.values()} == {Verdict.INCONCLUSIVE}
    assert all("the policy asks for 10" in finding.limits for finding in asked.values())


def test_the_chance_of_a_false_fail_is_shared_by_the_questions() -> None:
    assert level_of(RULES) * QUESTIONS == pytest.approx(RULES.max_false_fail)
    level = level_of(RULES)
    assert weigh(level, {"c": 0.5}, 20, RULES).verdict is Verdict.FAIL
    assert weigh(level, {"c": 0.5}, 3, RULES).verdict is Verdict.FAIL
    assert weigh(level, {"c": 0.5}, 20, RULES, shown=False).verdict is Verdict.PASS
    assert weigh(level, {"c": level}, 20, RULES).verdict is Verdict.INCONCLUSIVE
    assert weigh(2 * level, {"c": 0.5}, 20, RULES).verdict is Verdict.PASS
    assert weigh(float("nan"), {"c": float("nan")}, 20, RULES).verdict is Verdict.INCONCLUSIVE


def test_the_smallest_linked_share_really_shows_that_often() -> None:
    control = Successes(2, 25)
    share = smallest_linked_share(80, control, 0.001)
    assert share is not None
    from scipy import stats

    def power(true: float) -> float:
        rng = np.random.default_rng(0)
        found = rng.binomial(80, true + (1 - true) * 2 / 25, 4000)
        shown = {k: stats.fisher_exact([[k, 80 - k], [2, 23]], alternative="greater").pvalue for k in set(found)}
        return float(np.mean([shown[k] <= 0.001 for k in found]))

    assert power(share) == pytest.approx(0.8, abs=0.03)
    assert power(share - 0.1) < 0.6
    assert smallest_linked_share(80, Successes(25, 25), 0.001) is None


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Ellipsoids can be turned without being seen; a texture of its own gives every patient a front and a back."""
    made = make_tiny_cohort(tmp_path_factory.mktemp("further") / "cohort", patients=44, holdout=14)
    for number, record in enumerate(made.records):
        scan = made.load(record)
        texture = smooth_field(scan.label.shape, (3.0, 3.0, 3.0), np.random.default_rng([3, number]))
        image = np.where(scan.label > 0, np.clip(scan.image + 0.12 * texture, 0.01, 1), 0).astype(np.float32)
        images = [(name, image[c]) for c, name in enumerate(made.info.modalities) if scan.present[c]]
        save_scan(made.folder / "scans" / record.scan, made.grid, images, scan.label)
    return made


def noisy(scan: Scan, number: int) -> Scan:
    noise = np.random.default_rng([1, number]).normal(0, 0.02, scan.image.shape).astype(np.float32)
    image = np.where(scan.image != 0, np.maximum(scan.image + noise, 0), 0).astype(np.float32)
    return replace(scan, image=image)


def test_noisy_copies_of_scans_are_caught(tmp_path: Path, cohort: Cohort) -> None:
    grid = ViewGrid(cohort.grid.shape, cohort.grid.spacing, (1, 2))
    index = build_index(cohort, cohort.of(Split.TRAIN), grid, tmp_path, QUIET)
    copied = index.records[2:22]
    generated = tuple(
        Query(q.scan, q.patient, lambda q=q, n=n: noisy(q.load(), n))
        for n, q in enumerate(cohort_queries(cohort, copied))
    )
    holdout = one_scan_per_patient(cohort_queries(cohort, cohort.of(Split.HOLDOUT)), 0, "holdout")
    drawn = draw_patients(cohort_queries(cohort, index.records), 0)
    made = build_population(index, drawn, holdout, generated, (cohort.of(Split.HOLDOUT), copied), 0, QUIET)
    assert made is not None
    assert made.modalities == ("T1w", "FLAIR")
    assert made.points.train.shape[0] == 29
    assert made.left_out == 1  # one patient has no FLAIR
    assert made.points.train.shape[1] <= 64
    # The components are as kind to the holdout as to the training patients.
    assert blind_p(made.points.train, made.points.holdout, 0) > 0.01
    leaky = ask(made)
    assert failed(leaky) >= {"membership", "membership-few", "linkage"}, leaky


def test_modalities_that_a_fifth_of_a_side_lacks_are_left_out(cohort: Cohort) -> None:
    records = cohort.records[:10]
    lacking = [r.model_copy(update={"modalities": ("T1w",)}) if n < 3 else r for n, r in enumerate(records)]
    assert common_modalities(("T1w", "FLAIR"), (records, lacking))[0] == ("T1w",)
    none = [r.model_copy(update={"modalities": ("T2w",)}) for r in records]
    shared, kept = common_modalities(("T1w", "FLAIR"), (records, none))
    assert shared == ()
    assert kept == ((), ())


def test_a_second_acquisition_is_the_same_patient_but_not_the_same_image(cohort: Cohort) -> None:
    scan, other = (cohort.load(cohort.records[n]) for n in (0, 3))
    again = second_acquisition(scan, np.random.default_rng(0))
    assert again.image.shape == scan.image.shape
    assert not np.allclose(again.image, scan.image, atol=1e-3)

    def alike(one: Scan, two: Scan) -> float:
        return float(np.corrcoef(one.image[0].ravel(), two.image[0].ravel())[0, 1])

    assert alike(scan, again) > max(0.9, alike(scan, other))
