"""`anonsynth train`: from a cohort to a model, resumable at every step."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch

from anonsynth._version import __version__
from anonsynth.anatomy.priors import Guarantee, LabelPrior
from anonsynth.anatomy.public_maps import PublicMaps
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort
from anonsynth.files import (
    finish_folder,
    is_finished,
    read_json,
    sha256_file,
    write_json,
    write_text,
)
from anonsynth.policies.model import Policy
from anonsynth.privacy.declare import Step, declare, standing
from anonsynth.privacy.price import Price, price_of_guarantee
from anonsynth.privacy.spending import Budget, StepKind, refuse_unprotected
from anonsynth.progress import Progress
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.anatomy_source import anatomy_source, write_templates
from anonsynth.synthesis.card import model_card
from anonsynth.synthesis.checkpoint import save_weights
from anonsynth.synthesis.data import ScanSampler, crop_shape, read_class_map
from anonsynth.synthesis.device import pick_device
from anonsynth.synthesis.finish import LOOKED_AT, RIMS_OF, finish
from anonsynth.synthesis.label_source import LabelSource, choose_label_source, open_prior
from anonsynth.synthesis.label_to_mri import LabelToMRI, render, train_label_to_mri
from anonsynth.synthesis.model import GENERATOR_FILE, MODEL_FILE, ModelInfo, claim, hash_weights
from anonsynth.synthesis.mri_to_label import MRIToLabel, OneModality, train_mri_to_label
from anonsynth.synthesis.picture import training_picture
from anonsynth.synthesis.preparation import LABEL_NET_FILE, prepare_class_maps, usable_records
from anonsynth.synthesis.settings import PerformanceSettings, PriorChoice, TrainSettings
from anonsynth.synthesis.style import StyleSpace, draw_style, fit_styles, measure_colours
from anonsynth.synthesis.vocabulary import coordinates

__all__ = ["settings_hash", "train"]

PICTURED = 4
CHOICE = Step("choice", StepKind.SELECTION, "which label prior fits, field of view, modalities, labels, inferred grid")
"""The first look at the cohort; what else is read follows from it."""


def train(
    cohort: Cohort,
    settings: TrainSettings,
    policy: Policy,
    out: Path,
    performance: PerformanceSettings,
    progress: Progress,
    *,
    resume: bool = True,
    both_directions: bool = False,
    maps: PublicMaps | None = None,
) -> Path:
    """Train a model on a cohort's training patients and write it to `out`; return `out`.

    Called again with the same settings it resumes, or returns at once if the model is finished; with `resume` off an
    unfinished training starts anew. With `both_directions` MRI → label is trained on the cohort's own label maps too;
    where anatomy has to be filled in it is trained in any case, on simulated people. Every step that reads patients
    stands in the cohort's ledger before it runs. With `maps` label maps for generation come from these public ones.

    Raises:
        UsageError: If `out` holds a model of other settings, or the policy allows no label prior that fits.
        VerdictError: If the policy asks for a guarantee: nothing here has a mechanism that could give one.
        InputError: If no training scan can be used, or the cohort's ledger cannot be written.
    """
    refuse_unprotected(Budget.of(policy), "this training")
    if maps is not None:
        settings = settings.model_copy(update={"anatomy": maps.sha256})
    key = settings_hash(cohort, settings)
    has_label_network = (out / LABEL_NET_FILE).exists() or not both_directions
    if has_label_network and is_finished(out, MODEL_FILE) and read_json(out / MODEL_FILE)["settings_sha256"] == key:
        return out
    claim(out, key)
    started = time.monotonic()
    device = pick_device(performance.device)
    declare(cohort, policy, key[:16], CHOICE)
    if maps is None:
        source = choose_label_source(cohort, settings.prior, policy)
    else:
        source = anatomy_source(cohort.info, maps, settings.prior, policy)
        write_templates(cohort.info, maps, source, out)
    records = usable_records(cohort, source)
    declare(cohort, policy, key[:16], *_steps(source, both_directions=both_directions))
    class_maps = prepare_class_maps(cohort, records, source, out, key[:16], settings, performance, device, progress)
    styles, codes = _measure_styles(cohort, records, class_maps, source, settings)
    sampler = ScanSampler(
        cohort,
        records,
        class_maps,
        settings.batch,
        crop_shape(cohort.info.grid.shape, settings.crop_voxels),
        settings.seed,
        codes,
    )
    if both_directions:
        _train_label_network(out, sampler, source, settings, performance, device, progress)
    networks = LabelToMRI.new(source.vocabulary, len(cohort.info.modalities), settings)
    networks.take(styles)
    checkpoint = out / "resume.safetensors"
    if not resume:
        checkpoint.unlink(missing_ok=True)
    history = train_label_to_mri(
        networks, sampler, source.vocabulary, settings, performance, device, checkpoint, progress
    )

    prior = open_prior(source, cohort.grid, out)
    strays = finish(
        networks.mean, cohort, records, class_maps, codes, source.vocabulary, prior, settings.seed, device, progress
    )
    save_weights(out / GENERATOR_FILE, networks.mean)
    pictures = _fixed_samples(networks, prior, source, settings, device)
    training_picture(out / "training.png", history, pictures, cohort.info.modalities, cohort.grid.spacing)
    write_json(out / "history.json", history)
    info = ModelInfo(
        anonsynth=__version__,
        settings=settings,
        settings_sha256=key,
        policy=policy.id,
        modalities=cohort.info.modalities,
        grid=cohort.info.grid,
        source=source,
        guarantee=Guarantee.NONE,
        border_stray=strays,
        unprotected=_unprotected(cohort, source),
        ledger=standing(cohort),
        patients=len({record.patient for record in records}),
        scans=len(records),
        prices=_prices(networks, records, settings),
        cohort_sha256=sha256_file(cohort.folder / "scans.tsv"),
        weights_sha256=hash_weights(out),
        seconds=round(time.monotonic() - started, 1),
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, {device.type}, torch {torch.__version__}",
    )
    write_text(out / "model_card.md", model_card(info, cohort.info))
    write_json(out / MODEL_FILE, info.model_dump(mode="json", by_alias=True))
    checkpoint.unlink(missing_ok=True)
    finish_folder(out)
    return out


def settings_hash(cohort: Cohort, settings: TrainSettings) -> str:
    """Return a hash of everything that the trained weights depend on."""
    parts = {
        "settings": settings.told(),
        "cohort": sha256_file(cohort.folder / "scans.tsv"),
        "grid": cohort.info.grid.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _train_label_network(
    out: Path,
    sampler: ScanSampler,
    source: LabelSource,
    settings: TrainSettings,
    performance: PerformanceSettings,
    device: torch.device,
    progress: Progress,
) -> None:
    """Train MRI → label on the cohort's own scans, one random modality of each, unless it is there."""
    if (out / LABEL_NET_FILE).exists():
        return
    networks = MRIToLabel.new(source.vocabulary.classes, settings)
    pairs = OneModality(sampler, settings.seed)
    checkpoint = out / "resume_labels.safetensors"
    train_mri_to_label(networks, pairs, settings, performance, device, checkpoint, progress)
    save_weights(out / LABEL_NET_FILE, networks.generator)
    checkpoint.unlink(missing_ok=True)


def _measure_styles(
    cohort: Cohort, records: tuple[ScanRecord, ...], class_maps: Path, source: LabelSource, settings: TrainSettings
) -> tuple[StyleSpace, dict[str, np.ndarray]]:
    """Return the space of styles, and the code of every training scan; scans are read one at a time."""
    measured = []
    for record in records:
        scan, classes = cohort.load(record), read_class_map(class_maps, record.scan)
        known = np.broadcast_to(scan.present[:, None, None, None] & (classes > 0), scan.image.shape)
        measured.append(measure_colours(scan.image, known, classes, source.vocabulary.classes))
    styles = fit_styles(measured, settings.style)
    codes = {record.scan: styles.encode(means) for record, (means, _) in zip(records, measured, strict=True)}
    return styles, codes


def _prices(networks: LabelToMRI, records: tuple[ScanRecord, ...], settings: TrainSettings) -> tuple[Price, ...]:
    """Price the discriminator: in a private GAN it is the one network that reads patients."""
    weights = sum(parameter.numel() for parameter in networks.critic.parameters())
    patients = len({record.patient for record in records})
    return price_of_guarantee(patients, settings.batch, settings.steps, weights)


def _unprotected(cohort: Cohort, source: LabelSource) -> tuple[str, ...]:
    """List what was read from the patients without a mechanism."""
    items = [
        "the weights of label → MRI (images and label maps of the training patients)",
        "mean and principal axes of the median intensity of each tissue (the styles)",
    ]
    if source.prior is PriorChoice.SHAPE:
        items.append("the shape prior (label maps and intensity classes of the training patients)")
    if source.vocabulary.context > 1:
        items.append(f"how strong the texture of each tissue is (up to {LOOKED_AT} training scans were looked at)")
        items.append(f"how far borders stray from label maps (up to {LOOKED_AT} training scans were looked at)")
        items.append(f"mean intensities by depth and side of a label's border (up to {RIMS_OF} training scans)")
    if not cohort.info.grid_given:
        items.append("the grid's shape and spacing (inferred from all scans)")
    if source.fov_slices:
        items.append("the least and most number of slices of the training scans")
    items.append("the number of training patients and scans, printed on this card")
    items.append("which modalities and labels occur")
    items.append("which label prior fits (up to eight training scans were looked at)")
    return tuple(items)


def _steps(source: LabelSource, *, both_directions: bool) -> tuple[Step, ...]:
    """Return what a training is going to read from the patients, for the ledger; none of it has a mechanism."""
    steps = [
        Step("styles", StepKind.STATISTICS, "median intensities of each tissue and their principal axes"),
        Step("generator", StepKind.TRAINING, "images and label maps: label → MRI"),
    ]
    if source.prior is PriorChoice.SHAPE:
        steps.insert(0, Step("shape prior", StepKind.PRIOR, "label maps and intensity classes: the shape prior"))
    if both_directions:
        steps.append(Step("label network", StepKind.TRAINING, "images and label maps: MRI → label"))
    if source.vocabulary.context > 1:
        steps.append(Step("finish", StepKind.STATISTICS, "texture, straying of borders, intensities beside borders"))
    return tuple(steps)


@torch.no_grad()
def _fixed_samples(
    networks: LabelToMRI,
    prior: LabelPrior,
    source: LabelSource,
    settings: TrainSettings,
    device: torch.device,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Write images for a fixed set of drawn label maps; no patient's label map is shown."""
    samples = []
    place = coordinates(prior.grid.shape)[None].to(device)
    for index in range(PICTURED):
        drawn = prior.draw(stream(settings.seed, "pictured map", index))
        noise = torch.Generator().manual_seed(stream_seed(settings.seed, "pictured style", index))
        style = draw_style(settings.style, noise).to(device)
        classes = torch.from_numpy(drawn.label)[None].to(device)
        image = render(networks.mean, classes, place, style, source.vocabulary, noise)[0]
        samples.append((image.cpu().numpy(), source.vocabulary.label_map(drawn.label)))
    return samples
