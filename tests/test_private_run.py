"""`anonsynth run --epsilon`: the whole way with a guarantee, refused at once where there could be none, paid once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nifti_sources import save
from typer.testing import CliRunner, Result

from anonsynth import pipeline
from anonsynth.anatomy.priors import Guarantee
from anonsynth.cli.main import app
from anonsynth.errors import BudgetError, UsageError, VerdictError
from anonsynth.files import sha256_file
from anonsynth.pipeline import RunSettings, run
from anonsynth.policies.model import Policy, SynthesisRules
from anonsynth.privacy import randomness
from anonsynth.privacy.declare import ledger_of
from anonsynth.progress import Progress
from anonsynth.synthesis import private_statistics, private_writer
from anonsynth.synthesis.model import open_model
from anonsynth.synthesis.settings import GuaranteeSettings

SHAPE = (24, 28, 20)
GRID = ["--shape", "24,28,20", "--spacing", "2,2,2"]
DECLARED = ["--public-patients", "8", "--modalities", "T1w", "--public-labels", "1,2"]
ASKED = GuaranteeSettings(epsilon=20.0, patients=8, modalities=("T1w",), labels=(1, 2))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at fewer drawn scans: they are public, and a test needs no exact texture."""
    monkeypatch.setattr(private_writer, "DRAWN", 2)
    monkeypatch.setattr(private_writer, "DISTANCES", (0.0, 0.8))
    monkeypatch.setattr(private_statistics, "DRAWN", 3)


@pytest.fixture
def _settled_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same noise in every run of the tests: unlucky noise on eight patients is no news about the way."""
    monkeypatch.setattr(randomness.secrets, "token_bytes", lambda count: bytes(range(count)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patients of ellipsoids, the upper half of each a label of its own."""
    root = tmp_path_factory.mktemp("Doe_Jane")
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    for number in range(10):
        rng = np.random.default_rng([3, number])
        inside = sum((axis / rng.uniform(0.4, 0.6)) ** 2 for axis in axes) < 1
        label = inside * (1 + (axes[2] > 0)).astype(np.uint8)
        image = 300 + 300 * inside + 200 * (label == 2) + rng.normal(0, 30, SHAPE)
        save(root / "images" / f"case{number}.nii.gz", image.clip(1).astype(np.int16))
        save(root / "labels" / f"case{number}.nii.gz", label.astype(np.uint8))
    return root


@contextlib.contextmanager
def quiet() -> Iterator[Progress]:
    with Progress(quiet=True) as shown:
        yield shown


def anonsynth(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.usefixtures("_settled_noise")
def test_from_scans_to_an_audited_cohort_with_a_guarantee(source: Path, tmp_path: Path) -> None:
    """After an ε that was refused: on the same cohort, beside the same ledger, paid once and done once."""
    out = tmp_path / "out"
    asked = {"sources": (source,), "out": out, "modality": "T1w", "count": 4, "planted": 0, "guarantee": ASKED}
    settings = RunSettings(**asked, shape=SHAPE, spacing=(2, 2, 2))
    heard: list[str] = []
    with pytest.raises(BudgetError, match=r"patients are too few for ε = 0\.5"):
        run(with_epsilon(settings, 0.5), quiet, heard.append)
    assert not (out / "cohort" / "ledger.sqlite").exists()
    cohort = sha256_file(out / "cohort" / "scans.tsv")

    result = run(settings, quiet, heard.append)
    assert result.verdict != "pass"  # two holdout patients are too few for one
    assert "[1/4] ingest: done" in heard, "another ε is asked for on the same cohort, beside the same ledger"
    assert sha256_file(out / "cohort" / "scans.tsv") == cohort
    assert any(line.strip().startswith("rung 1: ε = ") for line in heard)
    assert open_model(out / "model").guarantee is Guarantee.PRIVATE
    entries = ledger_of(out / "cohort").read().entries
    assert [entry.step.value for entry in entries] == ["statistics"]
    assert len(list((out / "synthetic").glob("sub-*/anat/*.nii.gz"))) == 4
    told = "".join(path.read_text("utf-8") for path in (out / "model").glob("*.*") if path.suffix in {".json", ".md"})
    assert "Doe" not in told

    again = run(settings, quiet, heard.append)
    assert all(time.earlier for time in again.times)
    assert ledger_of(out / "cohort").read().entries == entries
    with pytest.raises(UsageError, match="its guarantee differ"):
        run(with_epsilon(settings, 10.0), quiet, heard.append)


def with_epsilon(settings: RunSettings, epsilon: float) -> RunSettings:
    return settings.model_copy(update={"guarantee": ASKED.model_copy(update={"epsilon": epsilon})})


def test_the_command_line_asks_for_the_same(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[RunSettings] = []

    def listening(settings: RunSettings, *_: object) -> None:
        heard.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", listening)
    anonsynth("run", str(source), "--out", str(tmp_path / "out"), *GRID, *DECLARED, "--epsilon", "20")
    anonsynth("run", str(source), "--out", str(tmp_path / "out"), *GRID, "--rung", "0")
    anonsynth("run", str(source), "--out", str(tmp_path / "out"))
    assert [settings.guarantee for settings in heard] == [ASKED, GuaranteeSettings(rung=0), None]


@pytest.mark.parametrize("missing", ["--shape", "--spacing"])
def test_a_grid_that_would_be_inferred_is_refused_before_a_scan_is_opened(
    source: Path, tmp_path: Path, missing: str
) -> None:
    given = [word for pair in zip(GRID[::2], GRID[1::2], strict=True) if pair[0] != missing for word in pair]
    for rung in (["--epsilon", "20"], ["--rung", "0"]):
        ended = anonsynth("run", str(source), "--out", str(tmp_path / "out"), *given, *DECLARED, *rung)
        assert isinstance(ended.exception, UsageError)
        assert "a guarantee needs a grid that is public: give --shape and --spacing" in str(ended.exception)
    assert not (tmp_path / "out").exists()


def strict(folder: Path) -> str:
    """Write a policy that asks for a guarantee; return its path."""
    policy = Policy(id="strict", title="t", description="d", synthesis=SynthesisRules(guarantee=True))
    path = folder / "strict.yaml"
    path.write_text(json.dumps(policy.model_dump(mode="json")), "utf-8")  # JSON is YAML
    return str(path)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([], r"asks for a guarantee; give --epsilon"),
        ([*DECLARED[2:], "--epsilon", "20"], "the number of patients would be told without one"),
        ([*DECLARED[:2], *DECLARED[4:], "--epsilon", "20"], "which modalities occur would be told"),
        ([*DECLARED[:4], "--rung", "0"], "which labels occur would be told"),
    ],
)
def test_a_policy_that_asks_for_a_guarantee_refuses_at_once(
    source: Path, tmp_path: Path, asked: list[str], told: str
) -> None:
    out = tmp_path / "out"
    ended = anonsynth("run", str(source), "--out", str(out), "--policy", strict(tmp_path), *GRID, *asked)
    assert isinstance(ended.exception, VerdictError)
    assert told in str(ended.exception)
    assert not out.exists()


def test_what_could_not_be_a_guarantee_is_wrong_usage(tmp_path: Path) -> None:
    given = {"sources": (tmp_path,), "out": tmp_path / "out", "shape": (8, 8, 8), "spacing": (1, 1, 1)}
    with pytest.raises(UsageError, match="bought with --epsilon"):
        RunSettings(**given, prior="private")
    with pytest.raises(UsageError, match="shape prior gives no guarantee"):
        RunSettings(**given, prior="shape", guarantee=ASKED)
    with pytest.raises(UsageError, match="reads patients and needs --epsilon"):
        RunSettings(**given, guarantee=ASKED.model_copy(update={"epsilon": None}))
