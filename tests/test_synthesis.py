"""Training and generation on a tiny cohort: the loop learns, resumes to the same weights, and masks what is missing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from anonsynth.cohort.model import LabelEntry, LabelKind, Split
from anonsynth.cohort.store import Cohort
from anonsynth.errors import InputError, UsageError
from anonsynth.files import read_json, sha256_file
from anonsynth.policies.model import Policy, SynthesisRules, load_policy
from anonsynth.progress import Progress
from anonsynth.synthesis.checkpoint import load_weights
from anonsynth.synthesis.data import ScanSampler, crop_shape
from anonsynth.synthesis.generate import generate_patients
from anonsynth.synthesis.label_source import choose_label_source
from anonsynth.synthesis.losses import grain_difference, masked_l1, segmentation_loss
from anonsynth.synthesis.model import open_model
from anonsynth.synthesis.mri_to_label import class_probabilities
from anonsynth.synthesis.networks import Translator
from anonsynth.synthesis.painter import DARKEST, PaintedTranslator, Painter
from anonsynth.synthesis.preparation import coarser, prepare_class_maps
from anonsynth.synthesis.settings import PerformanceSettings, PriorChoice, TrainSettings
from anonsynth.synthesis.style import draw_style, fit_styles, measure_colours
from anonsynth.synthesis.train import train
from anonsynth.synthesis.vocabulary import Vocabulary, condition_tensor, coordinates, without_seams

SMALL = TrainSettings(steps=6, batch=2, width=8, style=4, crop_voxels=20_000)
EAGER = PerformanceSettings(device="cpu", checkpoint_seconds=0)


@pytest.fixture(scope="session")
def tiny_model(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of six steps."""
    out = tmp_path_factory.mktemp("model") / "model"
    with Progress(quiet=True) as progress:
        return train(tiny_cohort, SMALL, load_policy("internal"), out, EAGER, progress)


def test_the_loop_learns(tiny_cohort: Cohort, tmp_path: Path) -> None:
    longer = SMALL.model_copy(update={"steps": 60, "ema_decay": 0.9})
    with Progress(quiet=True) as progress:
        train(tiny_cohort, longer, load_policy("internal"), tmp_path / "m", EAGER, progress)
    history = read_json(tmp_path / "m" / "history.json")
    # Colours are measured, so the first picture is near; the network betters it, and grain is learnt from nothing.
    assert history[0]["l1"] < 0.1
    assert history[-1]["l1"] < 0.95 * history[0]["l1"]
    assert history[-1]["grain"] < 0.5 * history[0]["grain"]


def test_a_model_folder_holds_what_it_promises(tiny_model: Path) -> None:
    info = open_model(tiny_model)
    assert info.guarantee == "no guarantee"
    assert "generator.safetensors" in info.weights_sha256
    assert all(sha256_file(tiny_model / name) == digest for name, digest in info.weights_sha256.items())
    assert (tiny_model / "training.png").stat().st_size > 5000
    assert info.ledger.startswith("no guarantee: ")
    assert "No guarantee" in (tiny_model / "model_card.md").read_text("utf-8")
    assert not (tiny_model / "resume.safetensors").exists()


def test_holdout_patients_are_never_trained_on(tiny_cohort: Cohort, tiny_model: Path) -> None:
    names = {path.stem for path in (tiny_cohort.folder / "derived").rglob("*.nii")}
    assert names == {record.scan for record in tiny_cohort.of(Split.TRAIN)}
    assert open_model(tiny_model).patients == len(tiny_cohort.patients(Split.TRAIN))


def test_killed_and_resumed_gives_the_same_weights(tiny_cohort: Cohort, tiny_model: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from anonsynth.cohort.store import open_cohort\n"
        "from anonsynth.policies.model import load_policy\n"
        "from anonsynth.progress import Progress\n"
        "from anonsynth.synthesis.settings import PerformanceSettings, TrainSettings\n"
        "from anonsynth.synthesis.train import train\n"
        f"settings = TrainSettings.model_validate_json({SMALL.model_dump_json()!r})\n"
        "fast = PerformanceSettings(device='cpu', checkpoint_seconds=0)\n"
        "cohort, out = open_cohort(Path(sys.argv[1])), Path(sys.argv[2])\n"
        "train(cohort, settings, load_policy('internal'), out, fast, Progress())\n"
    )
    out = tmp_path / "killed"
    command = [sys.executable, "-c", script, str(tiny_cohort.folder), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "resume.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "model.json").exists()
    assert (out / "UNFINISHED").exists()
    with pytest.raises(InputError, match="unfinished"):
        open_model(out)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert open_model(out).weights_sha256 == open_model(tiny_model).weights_sha256


def test_finished_training_returns_at_once_and_other_settings_are_refused(
    tiny_cohort: Cohort, tiny_model: Path
) -> None:
    before = (tiny_model / "model.json").stat().st_mtime_ns
    with Progress(quiet=True) as progress:
        train(tiny_cohort, SMALL, load_policy("internal"), tiny_model, EAGER, progress)
        assert (tiny_model / "model.json").stat().st_mtime_ns == before
        other = SMALL.model_copy(update={"seed": 1})
        with pytest.raises(UsageError, match="other settings"):
            train(tiny_cohort, other, load_policy("internal"), tiny_model, EAGER, progress)


def test_a_policy_that_asks_for_a_guarantee_refuses_the_shape_prior(tiny_cohort: Cohort) -> None:
    strict = Policy(id="strict", title="strict", description="strict", synthesis=SynthesisRules(guarantee=True))
    with pytest.raises(UsageError, match="no label prior that fits"):
        choose_label_source(tiny_cohort, PriorChoice.AUTO, strict)


def test_both_directions_learn_from_the_cohort(tiny_cohort: Cohort, tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"steps": 1, "label_steps": 80})
    with Progress(quiet=True) as progress:
        out = tmp_path / "m"
        train(tiny_cohort, settings, load_policy("internal"), out, EAGER, progress, both_directions=True)
    source = open_model(out).source
    network = Translator(1, source.vocabulary.classes, width=8, style=1)
    load_weights(out / "mri_to_label.safetensors", network)
    scan = tiny_cohort.load(tiny_cohort.of(Split.HOLDOUT)[0])
    probability = class_probabilities(network, scan.image, scan.present, torch.device("cpu"))
    assert probability.shape == (source.vocabulary.classes, *tiny_cohort.grid.shape)
    found = source.vocabulary.label_map(probability.argmax(0).astype(np.uint8)) > 0
    body = scan.label > 0
    assert 2 * (found & body).sum() / (found.sum() + body.sum()) > 0.8


def test_a_missing_modality_teaches_nothing() -> None:
    real = torch.zeros(1, 2, 4, 4, 4)
    fake = torch.ones(1, 2, 4, 4, 4, requires_grad=True)
    known = torch.tensor([1.0, 0.0])[None, :, None, None, None].expand_as(real)
    loss = masked_l1(real, fake, known)
    loss.backward()
    assert loss.item() == pytest.approx(1.0)
    assert fake.grad is not None
    assert fake.grad[:, 1].abs().max() == 0
    assert fake.grad[:, 0].abs().min() > 0


@pytest.mark.usefixtures("tiny_model")
def test_batches_mask_absent_modalities_and_repeat_by_step(tiny_cohort: Cohort) -> None:
    folder = next((tiny_cohort.folder / "derived").iterdir())
    records = tiny_cohort.of(Split.TRAIN)
    without_flair = tuple(record for record in records if "FLAIR" not in record.modalities)
    sampler = ScanSampler(tiny_cohort, without_flair, folder, 1, (16, 16, 16), 3)
    batch = sampler.batch(5)
    assert batch.known[:, 1].max() == 0
    assert batch.known[:, 0].max() == 1
    assert torch.equal(batch.image, sampler.batch(5).image)
    assert not torch.equal(batch.place, sampler.batch(6).place)


@pytest.mark.usefixtures("tiny_model")
def test_every_patient_counts_once_however_many_scans(tiny_cohort: Cohort) -> None:
    folder = next((tiny_cohort.folder / "derived").iterdir())
    records = tiny_cohort.of(Split.TRAIN)[:4]
    sampler = ScanSampler(tiny_cohort, records, folder, 4, (24, 28, 20), 0)
    images = sampler.batch(0).image[:, 0]
    assert len({float(image.sum()) for image in images}) == 4


def test_generation_is_a_function_of_seed_and_index(tiny_model: Path) -> None:
    first = list(generate_patients(tiny_model, [1, 2], styles=2, seed=7))
    again = next(iter(generate_patients(tiny_model, [2], styles=2, seed=7)))
    assert np.array_equal(first[1].label, again.label)
    assert np.array_equal(first[1].scans[1].image, again.scans[1].image)
    assert not np.array_equal(first[0].label, first[1].label)
    assert not np.array_equal(first[0].scans[0].image, first[0].scans[1].image)
    assert first[0].scans[0].image.min() >= 0
    assert first[0].scans[0].image.max() <= 1


def test_changed_weights_are_noticed(tiny_model: Path, tmp_path: Path) -> None:
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in open_model(tiny_model).weights_sha256:
        weights = bytearray((tiny_model / name).read_bytes())
        weights[-1] ^= 1
        (tmp_path / name).write_bytes(weights)
        with pytest.raises(InputError, match="not those"):
            next(iter(generate_patients(tmp_path, [1], styles=1, seed=0)))
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())


def test_the_translator_takes_any_size() -> None:
    network = Translator(3, 2, width=8, style=4)
    for size in ((8, 8, 8), (9, 14, 11), (1, 5, 30)):
        assert network(torch.zeros(1, 3, *size)).shape == (1, 2, *size)


def test_an_untrained_generator_shows_what_was_painted() -> None:
    network = PaintedTranslator(3, 2, width=8, style=4)
    with torch.no_grad():
        network.painter.mean.copy_(torch.tensor([[0.0, 0.2, 0.7], [0.0, 0.9, 0.4]]))
        classes = torch.randint(3, (1, 8, 8, 8))
        one_hot = functional.one_hot(classes, 3).movedim(-1, 1).float()
        condition = torch.cat([one_hot, coordinates((8, 8, 8))[None]], 1)
        network.grain.strength.zero_()
        image = network(condition[:, :3], condition, torch.zeros(1, 4), torch.Generator())
        painted = network.painter(one_hot, torch.zeros(1, 4))
    assert torch.allclose(image, painted.clamp(DARKEST, 1 - DARKEST), atol=1e-5)


def test_the_painter_mixes_intensities_at_boundaries_and_nowhere_else() -> None:
    painter = Painter(3, 1, style=4)
    with torch.no_grad():
        painter.mean.copy_(torch.tensor([[0.5, 0.1, 0.9]]))
        classes = (1 + (torch.arange(10) > 4).long()).expand(10, 10, 10).clone()
        classes[..., 0], classes[..., 9] = 0, 0  # outside the field of view, which darkens no border
        one_hot = functional.one_hot(classes, 3).movedim(-1, 0)[None].float()
        line = painter(one_hot, torch.zeros(1, 4))[0, 0, 5, 5, 1:9]
    # Half of a voxel's own, half of the mean over three voxels across the boundary.
    expected = torch.tensor([0.1] * 3 + [(5 * 0.1 + 0.9) / 6, (0.1 + 5 * 0.9) / 6] + [0.9] * 3)
    assert torch.allclose(line, expected, atol=1e-5)


def test_the_discriminator_cannot_reach_the_painter() -> None:
    network = PaintedTranslator(3, 1, width=8, style=4)
    network(torch.rand(1, 3, 8, 8, 8), torch.rand(1, 6, 8, 8, 8), torch.zeros(1, 4), torch.Generator()).sum().backward()
    assert all(parameter.grad is None for parameter in network.painter.parameters())
    assert network.translator.out.weight.grad is not None


def test_styles_give_back_and_spread_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, (12, 12, 12)).astype(np.uint8)
    known = np.broadcast_to(classes > 0, (2, 12, 12, 12)).copy()
    contrasts = rng.normal(0, 0.05, 60)
    measured = []
    for shift in contrasts:
        colours = np.array([[0, 0.3 + shift, 0.5 - shift, 0.7], [0, 0.4, 0.2 + 2 * shift, 0.6]])
        measured.append(measure_colours(colours[:, classes].astype(np.float32), known, classes, 4))
    space = fit_styles(measured, 3)
    assert space.mean[:, 1:] == pytest.approx(np.mean([means[:, 1:] for means, _ in measured], axis=0), abs=1e-5)
    # One contrast varies, so one axis holds all of it, and a code gives the colours back.
    assert np.abs(space.axes[1:]).max() == 0
    for means, _ in measured[:5]:
        back = space.mean + np.tensordot(space.encode(means), space.axes, 1)
        assert back[:, 1:] == pytest.approx(means[:, 1:], abs=1e-4)
    codes = np.array([space.encode(means)[0] for means, _ in measured])
    assert codes.std(ddof=1) == pytest.approx(1, abs=0.02)
    noise = torch.Generator().manual_seed(1)
    drawn = torch.cat([draw_style(3, noise) for _ in range(2000)])
    assert drawn.abs().max() <= 2
    assert drawn.std(0).tolist() == pytest.approx([0.95, 0.95, 0.95], abs=0.05)


def test_what_was_not_measured_counts_as_average() -> None:
    classes = np.array([[[0, 1, 2, 2]]], np.uint8)
    known = np.stack([classes > 0, classes > 9])
    scans = [np.full((2, 1, 1, 4), value, np.float32) for value in (0.2, 0.4, 0.6)]
    measured = [measure_colours(scan, known, classes, 4) for scan in scans]
    assert np.isnan(measured[0][0][1]).all()  # a modality that is missing
    assert np.isnan(measured[0][0][0, 3])  # a class that does not occur
    space = fit_styles(measured, 8)
    assert np.isfinite(space.axes).all()
    assert space.encode(np.full((2, 4), np.nan, np.float32)).tolist() == [0] * 8
    assert space.mean[0, 1] == pytest.approx(0.4)


def test_no_sample_reaches_another() -> None:
    """Group norm keeps patients apart: a scan's output does not depend on its neighbours in the batch."""
    network = Translator(1, 1, width=8, style=4).eval()
    batch = torch.randn(2, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.allclose(network(batch)[:1], network(batch[:1]), atol=1e-5)


def test_class_maps_keep_labels_and_field_of_view() -> None:
    labels = (LabelEntry(value=3, name="a"), LabelEntry(value=9, name="b", kind=LabelKind.TUMOUR))
    vocabulary = Vocabulary(context=2, labels=labels)
    label = np.array([[[0, 3, 9, 3]]], np.uint8)
    fov = np.array([[[True, True, True, False]]])
    classes = vocabulary.class_map(label, np.array([[[1, 0, 0, 0]]], np.uint8), fov)
    assert classes.ravel().tolist() == [2, 3, 4, 0]
    assert vocabulary.label_map(classes).ravel().tolist() == [0, 3, 9, 0]
    condition = condition_tensor(torch.from_numpy(classes)[None], coordinates((1, 1, 4))[None], vocabulary)
    assert condition.shape == (1, vocabulary.channels, 1, 1, 4)
    assert condition[0, : vocabulary.classes].sum(0).eq(1).all()


def test_crops_fit_and_small_grids_stay_whole() -> None:
    assert crop_shape((40, 56, 44), 110_000) == (40, 56, 44)
    crop = crop_shape((128, 128, 32), 110_000)
    assert np.prod(crop) < 150_000
    assert all(n % 8 == 0 for n in crop)


def test_a_coarser_grid_covers_the_same_field_of_view(tiny_cohort: Cohort) -> None:
    grid = tiny_cohort.grid
    coarse = coarser(grid, 2000)
    assert np.prod(coarse.shape) <= 2000
    assert coarse.extent == pytest.approx(grid.extent)


def test_losses_at_known_points() -> None:
    logits = torch.full((1, 3, 2, 2, 2), -20.0)
    logits[:, 1] = 20
    right = torch.ones(1, 2, 2, 2)
    assert segmentation_loss(logits, right).item() == pytest.approx(0, abs=1e-4)
    assert segmentation_loss(logits, 2 * right).item() > 10


def test_grain_is_told_from_smoothness_tissue_by_tissue() -> None:
    source = torch.Generator().manual_seed(0)
    classes = (torch.arange(16) > 7).long().expand(1, 16, 16, 16)
    one_hot = functional.one_hot(classes, 2).movedim(-1, 1).float()
    noise = [0.1 * torch.randn(1, 1, 16, 16, 16, generator=source) for _ in range(2)]
    flat = torch.full((1, 1, 16, 16, 16), 0.5)
    same = grain_difference(flat + noise[0], flat + noise[1], one_hot)
    smooth = grain_difference(flat + noise[0], flat, one_hot)
    assert same < 0.1 * smooth
    # The same amount of noise in the other tissue is no match.
    left, right = (noise[0] * (classes == k)[:, None] for k in (0, 1))
    assert grain_difference(flat + left, flat + right, one_hot) > 0.5 * smooth


def test_the_context_is_what_the_shape_model_can_express(tiny_cohort: Cohort, tmp_path: Path) -> None:
    source = choose_label_source(tiny_cohort, PriorChoice.SHAPE, load_policy("internal"))
    records = tiny_cohort.of(Split.TRAIN)[:4]
    with Progress(quiet=True) as progress:
        folder = prepare_class_maps(
            tiny_cohort, records, source, tmp_path, "key", SMALL, EAGER, torch.device("cpu"), progress
        )
    scan = tiny_cohort.load(records[0])
    import nibabel as nib

    classes = np.asarray(nib.load(folder / f"{records[0].scan}.nii").dataobj)
    assert np.array_equal(source.vocabulary.label_map(classes.astype(np.uint8)), scan.label)


def test_networks_see_the_structure_as_a_whole_where_surroundings_are_modelled() -> None:
    labels = tuple(LabelEntry(value=value, name=f"part-{value}") for value in (1, 2, 3))
    classes = torch.arange(7, dtype=torch.uint8).reshape(1, 7, 1, 1)
    place = coordinates((7, 1, 1))[None]
    vocabulary = Vocabulary(context=3, labels=labels)
    condition = condition_tensor(classes, place, vocabulary)
    told = without_seams(condition, vocabulary)
    assert told.shape == condition.shape
    assert torch.equal(told[:, :4], condition[:, :4])
    assert torch.equal(told[:, -3:], condition[:, -3:])
    assert told[0, 4, :, 0, 0].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert told[0, 5:7].abs().max() == 0
    # Tissues of a brain have edges that scans show, so there every label is told apart.
    brain = Vocabulary(context=1, labels=(*labels, LabelEntry(value=4, name="x"), LabelEntry(value=5, name="y")))
    assert without_seams(condition, brain) is condition
