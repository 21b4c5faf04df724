"""Label maps from a folder of public ones: cut as a table says, bent without tearing, at no cost, named nowhere."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import make_tiny_cohort
from nifti_sources import save
from scipy import ndimage
from typer.testing import CliRunner

from anonsynth import pipeline
from anonsynth.anatomy.map_prior import WARP_MM, MapPrior
from anonsynth.anatomy.map_templates import MapTemplates, cut_templates, load_templates, save_templates
from anonsynth.anatomy.priors import Guarantee
from anonsynth.anatomy.public_maps import MapRow, open_maps, rows_by_name
from anonsynth.cli.main import app
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import LabelEntry
from anonsynth.cohort.store import Cohort
from anonsynth.errors import InputError, UsageError
from anonsynth.pipeline import RunSettings
from anonsynth.policies.model import Policy, SynthesisRules
from anonsynth.seeds import stream
from anonsynth.synthesis import private_writer
from anonsynth.synthesis.anatomy_source import anatomy_source
from anonsynth.synthesis.generate import generate_patients
from anonsynth.synthesis.model import open_model
from anonsynth.synthesis.settings import PriorChoice

GRID = Grid((24, 28, 20), (2.0, 2.0, 2.0)).centred()
LEFT, RIGHT = 17, 53
FRONT, BACK = LabelEntry(value=3, name="front"), LabelEntry(value=7, name="back")
ROWS = (
    "site\tvalue\tlabel\tpart\tmirror\n"
    "left\t17\t3\tanterior 0.4\tno\nleft\t17\t7\tposterior 0.6\tno\n"
    "right\t53\t3\tanterior 0.4\tyes\nright\t53\t7\tposterior 0.6\tyes\n"
)


def head(seed: int) -> np.ndarray:
    """Return an int16 map (48, 56, 44), RAS+ at 2 mm: white matter in grey in fluid, a bent structure on each side."""
    shape = (48, 56, 44)
    x, y, z = np.meshgrid(*(2.0 * (np.arange(n) - (n - 1) / 2) for n in shape), indexing="ij")
    size = np.random.default_rng([11, seed]).uniform(0.9, 1.1)
    depth = np.sqrt((x / 44) ** 2 + (y / 52) ** 2 + (z / 40) ** 2) / size
    values = np.select([depth < 0.75, depth < 0.9, depth < 1], [2, 3, 24], 0)
    for value, side in ((LEFT, -1), (RIGHT, 1)):
        bent = ((x - side * 20 - y**2 / 60) / 8) ** 2 + (y / 16) ** 2 + (z / 7) ** 2 < size**2
        values[bent] = value
    return values.astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("Public_Institute")
    for seed in range(3):
        save(root / f"map{seed}.nii.gz", head(seed))
    (root / "README.txt").write_text("no map", "utf-8")
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "table.tsv"
    path.write_text(ROWS, "utf-8")
    return path


@pytest.fixture(scope="module")
def templates(folder: Path, table: Path) -> MapTemplates:
    maps = open_maps(folder, table)
    return cut_templates(maps, maps.rows, (3, 7), GRID, surrounded=True)


@pytest.fixture(scope="module")
def prior(templates: MapTemplates) -> MapPrior:
    return MapPrior(templates, GRID, (FRONT, BACK), 6, "T1w")


def test_templates_are_cut_around_the_structure_as_the_table_says(templates: MapTemplates) -> None:
    assert templates.sources.tolist() == [[number, site] for number in range(3) for site in range(2)]
    middle = (np.array(templates.grid.shape) - 1) / 2
    for code in templates.codes:
        front, back = np.argwhere(code == 1), np.argwhere(code == 2)
        assert len(front) / (len(front) + len(back)) == pytest.approx(0.4, abs=0.05)
        assert front[:, 1].min() > back[:, 1].max(), "the front lies in front of the back"
        box = np.argwhere((code == 1) | (code == 2))
        assert np.abs((box.min(0) + box.max(0)) / 2 - middle).max() <= 1
    # The right structure was mirrored onto the left: fluid and air lie on the same side of both.
    for left, right in zip(templates.codes[::2], templates.codes[1::2], strict=True):
        assert np.mean(left != right) < 0.02


def test_axes_of_the_file_do_not_matter(tmp_path: Path, folder: Path, table: Path) -> None:
    for path in sorted(folder.glob("*.nii.gz")):
        image = nib.load(path)
        turn = nib.orientations.axcodes2ornt(("L", "I", "A"))
        turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), turn))
        nib.save(turned, tmp_path / path.name)
    cut = [
        cut_templates(maps, maps.rows, (3, 7), GRID, surrounded=True).codes
        for maps in (open_maps(folder, table), open_maps(tmp_path, table))
    ]
    assert sorted(code.tobytes() for code in cut[0]) == sorted(code.tobytes() for code in cut[1])


def test_draws_tear_nothing_repeat_by_seed_and_are_no_public_map(prior: MapPrior, templates: MapTemplates) -> None:
    assert prior.guarantee is Guarantee.PUBLIC
    plain = [_at_rest(templates, number) for number in range(len(templates.codes))]
    seen = set()
    for number in range(30):
        drawn = prior.draw(stream(1, "map", number))
        assert np.array_equal(drawn.label, prior.draw(stream(1, "map", number)).label)
        labelled = drawn.label > 6
        assert set(np.unique(drawn.label)) == set(range(9))
        box = tuple(slice(a, b) for a, b in zip(drawn.fov_low, drawn.fov_high, strict=True))
        assert drawn.label[box].all(), "the field of view is full"
        assert not np.delete(drawn.label.ravel(), np.arange(drawn.label.size).reshape(GRID.shape)[box]).any()
        assert 0.4 < drawn.label[box].size / drawn.label.size < 0.9, "and a public share of the grid"
        assert ndimage.label(labelled)[1] == 1
        assert float(drawn.recipe["least_jacobian"]) > 0
        assert float(drawn.recipe["warp_mm"]) < 2 * WARP_MM[1]
        overlap = [2 * (labelled & (at > 0)).sum() / (labelled.sum() + (at > 0).sum()) for at in plain]
        assert max(overlap) < 0.98, "a draw is a public map as it came"
        # Surroundings are ranked: six classes of equal share of the whole scan.
        shares = np.bincount(drawn.label[~labelled], minlength=7)[1:7]
        assert shares.min() > 0.5 * shares.max()
        seen.add((drawn.recipe["map"], drawn.recipe["site"]))
    assert len(seen) == 6, "every map and site is drawn from"


def _at_rest(templates: MapTemplates, number: int) -> np.ndarray:
    """Return a template's labels on the cohort's grid, unbent."""
    low = [(n - m) // 2 for n, m in zip(templates.grid.shape, GRID.shape, strict=True)]
    box = tuple(slice(a, a + n) for a, n in zip(low, GRID.shape, strict=True))
    code = templates.codes[number][box]
    return np.where((code == 1) | (code == 2), code, 0)


def test_templates_come_back_from_the_disk(tmp_path: Path, templates: MapTemplates, prior: MapPrior) -> None:
    save_templates(templates, tmp_path / "t.safetensors")
    again = MapPrior(load_templates(tmp_path / "t.safetensors"), GRID, (FRONT, BACK), 6, "T1w")
    assert np.array_equal(again.draw(stream(0, "map")).label, prior.draw(stream(0, "map")).label)


def test_labels_are_found_by_name_without_a_table(folder: Path) -> None:
    maps = open_maps(folder)
    assert rows_by_name(maps, [LabelEntry(value=4, name="Left_hippocampus")]) == (MapRow(LEFT, 4),)
    assert {row.value for row in rows_by_name(maps, [LabelEntry(value=1, name="Hippocampus")])} == {LEFT, RIGHT}
    brain = [LabelEntry(value=v, name=n) for v, n in enumerate(("CSF", "gray matter", "white matter"), start=1)]
    cut = cut_templates(maps, rows_by_name(maps, brain), (1, 2, 3), GRID, surrounded=False)
    assert set(np.unique(cut.codes)) == {0, 1, 2, 3}
    with pytest.raises(InputError, match="known to show label 9 of the cohort; say with --anatomy-labels"):
        rows_by_name(maps, [LabelEntry(value=9, name="spleen")])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("x\t1\t", "needs a value, a label"),
        ("17\tspleen\t", "needs a value, a label"),
        ("17\t1\tanterior", "needs a value, a label"),
        ("17\t1\tupwards 0.3", "needs a value, a label"),
        ("17\t1\tanterior 1.3", "needs a value, a label"),
        ("", "has no rows"),
    ],
)
def test_a_table_that_says_something_else_is_refused(tmp_path: Path, folder: Path, row: str, told: str) -> None:
    table = tmp_path / "table.tsv"
    table.write_text("value\tlabel\tpart\n" + (row + "\n" if row else ""), "utf-8")
    with pytest.raises(InputError, match=told):
        open_maps(folder, table)


def test_what_the_maps_do_not_show_is_refused_in_one_sentence(tmp_path: Path, folder: Path) -> None:
    maps = open_maps(folder)
    with pytest.raises(InputError, match="shows label 2 of the cohort; add a row"):
        cut_templates(maps, (MapRow(LEFT, 1),), (1, 2), GRID, surrounded=True)
    with pytest.raises(InputError, match="none of the public maps shows all labels"):
        cut_templates(maps, (MapRow(99, 1),), (1,), GRID, surrounded=True)
    strange = head(0)
    strange[strange == 24] = 930
    save(tmp_path / "strange" / "map.nii.gz", strange)
    odd = open_maps(tmp_path / "strange")
    with pytest.raises(InputError, match="the value 930 of the public maps stands for is not known; add a row"):
        cut_templates(odd, (MapRow(LEFT, 1),), (1,), GRID, surrounded=True)
    cut_templates(odd, (MapRow(LEFT, 1), MapRow(930, "csf")), (1,), GRID, surrounded=True)
    for place, told in ((tmp_path / "none", "does not exist"), (tmp_path, "holds no NIfTI")):
        with pytest.raises(InputError, match=told):
            open_maps(place)
    save(tmp_path / "image" / "t1.nii.gz", np.random.default_rng(0).random((8, 8, 8)).astype(np.float32))
    with pytest.raises(InputError, match="other values than labels"):
        list(open_maps(tmp_path / "image").read())


def test_names_of_files_change_nothing(tmp_path: Path, folder: Path, table: Path) -> None:
    for number, path in enumerate(sorted(folder.glob("*.nii.gz"), reverse=True)):
        (tmp_path / f"{number}.nii.gz").write_bytes(path.read_bytes())
    one, other = open_maps(folder, table), open_maps(tmp_path, table)
    assert one.sha256 == other.sha256
    assert one.sha256 != open_maps(folder).sha256, "the table is part of what was given"


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return make_tiny_cohort(tmp_path / "cohort", patients=6, holdout=2)


def test_a_model_from_public_maps_reads_nobody_and_names_no_folder(
    tmp_path: Path, cohort: Cohort, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(private_writer, "DRAWN", 2)
    monkeypatch.setattr(private_writer, "DISTANCES", (0.0,))
    monkeypatch.setattr(Cohort, "load", load)
    own = tmp_path / "Public_Institute" / "table.tsv"
    own.parent.mkdir()
    own.write_text(ROWS.replace("\t3\t", "\t1\t").replace("\t7\t", "\t2\t"), "utf-8")
    out = tmp_path / "model"
    command = ["train", str(cohort.folder), "--out", str(out), "--rung", "0", "--anatomy", str(folder)]
    ended = CliRunner().invoke(
        app, [*command, "--anatomy-labels", str(own), "--modalities", "T1w,FLAIR", "--labels", "1,2"]
    )
    assert ended.exit_code == 0, ended.exception
    info, card = open_model(out), (out / "model_card.md").read_text("utf-8")
    assert info.guarantee is Guarantee.PUBLIC
    assert info.source.prior is PriorChoice.ATLAS
    assert info.source.anatomy is not None
    assert info.source.anatomy.sha256 == info.settings.anatomy == open_maps(folder, own).sha256
    assert "public and cost no patient anything (ε = 0)" in card
    assert info.source.anatomy.sha256 in card
    assert "anatomy.safetensors" in info.weights_sha256, "what generation reads is checked before it is read"
    for path in out.iterdir():
        assert b"Institute" not in path.read_bytes(), path.name
        assert b"map0" not in path.read_bytes(), path.name
    patient = next(generate_patients(out, [1], styles=1, seed=0, device_name="cpu"))
    assert set(np.unique(patient.label)) == {0, 1, 2}
    assert patient.recipe["prior"] == "atlas"
    assert np.ptp(patient.scans[0].image) > 0.1

    # With an ε the whole budget is left for what scans look like: label maps are not paid for.
    monkeypatch.undo()
    monkeypatch.setattr(private_writer, "DRAWN", 2)
    command[3], command[4:6] = str(tmp_path / "private"), ["--epsilon", "20"]
    named = ["--anatomy-labels", str(own), "--modalities", "T1w,FLAIR", "--labels", "1,2", "--patients", "8"]
    ended = CliRunner().invoke(app, [*command, *named])
    assert ended.exit_code == 0, ended.exception
    bought = open_model(tmp_path / "private").bought
    assert bought is not None
    assert [release["name"] for release in bought.releases] == ["appearance", "spread"]


def test_a_policy_or_another_prior_refuses(cohort: Cohort, folder: Path) -> None:
    maps = open_maps(folder)
    strict = Policy(id="strict", title="t", description="d", synthesis=SynthesisRules(priors=("private",)))
    with pytest.raises(UsageError, match="does not allow the atlas prior"):
        anatomy_source(cohort.info, maps, PriorChoice.AUTO, strict)
    with pytest.raises(UsageError, match="leave --prior shape out"):
        anatomy_source(cohort.info, maps, PriorChoice.SHAPE, Policy(id="p", title="t", description="d"))


def test_a_run_takes_the_same_folder_and_records_no_name_of_it(
    tmp_path: Path, folder: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "scans"
    source.mkdir()
    monkeypatch.setattr(pipeline, "_walk", lambda stages, record, *_: record.save() or stages)
    settings = RunSettings(sources=(source,), out=tmp_path / "out", anatomy=folder, anatomy_labels=table)
    pipeline.run(settings, lambda: None, print)  # type: ignore[arg-type, return-value]
    recorded = (tmp_path / "out" / "run.json").read_text("utf-8")
    assert '"anatomy": [' in recorded
    assert "Institute" not in recorded
    with pytest.raises(UsageError, match="name their folder too"):
        RunSettings(sources=(source,), out=tmp_path / "out", anatomy_labels=table)
    ended = CliRunner().invoke(app, ["train", "x", "--out", "y", "--anatomy-labels", str(table)])
    assert isinstance(ended.exception, UsageError)
