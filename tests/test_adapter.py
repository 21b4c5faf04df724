"""Rung 3's network and loss: patients kept apart, few weights, the same correction in training and in generation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import LabelEntry
from anonsynth.privacy.layers import check_network
from anonsynth.privacy.per_patient import Contribution, Items, patient_gradients, trainable
from anonsynth.progress import Progress
from anonsynth.synthesis import scanners
from anonsynth.synthesis.adapter import (
    COMPOSED,
    adapter_items,
    adapter_loss,
    adapter_sizes,
    corrected,
    freeze_but,
    typical_norm,
)
from anonsynth.synthesis.label_source import LabelSource, private_prior
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.private_plan import Facts, make_plan
from anonsynth.synthesis.private_statistics import public_statistics
from anonsynth.synthesis.private_writer import styles_of
from anonsynth.synthesis.scanners import Drawing, SimulatedScanner, pretrain, quieten
from anonsynth.synthesis.settings import PriorChoice
from anonsynth.synthesis.vocabulary import Vocabulary, condition_tensor, without_seams

SHAPE = (16, 16, 16)
WIDTH = 8
VOCABULARY = Vocabulary(context=6, labels=(LabelEntry(value=1, name="structure"),))


@pytest.fixture(scope="module")
def drawing() -> tuple[PaintedTranslator, Drawing]:
    """A generator with public colours, and maps of the public prior."""
    facts = Facts(100, SHAPE, 6, 1, 1, shaped=True)
    statistics = public_statistics(facts, make_plan(facts, 1.0), 2)
    source = LabelSource(prior=PriorChoice.PRIVATE, reason="a test", vocabulary=VOCABULARY)
    assert statistics.model is not None
    prior = private_prior(statistics.model, source, Grid(SHAPE, (1.0, 1.0, 1.0)).centred())
    torch.manual_seed(0)
    generator = PaintedTranslator(VOCABULARY.classes, 1, width=WIDTH, style=2)
    generator.painter.take(styles_of(statistics, VOCABULARY))
    quieten(generator.translator)
    return generator, Drawing.of(prior, VOCABULARY, SHAPE, 2, 0)


def person(
    generator: PaintedTranslator, drawing: Drawing, index: int, scanner: SimulatedScanner | None = None
) -> Items:
    """Simulate a person with a scan or two, of one scanner or of her own."""
    parts: list[Items] = []
    for scan in range(1 + index % 2):
        classes, place, style, _ = drawing.draw(10 * index + scan, "a test")
        condition = condition_tensor(classes, place, VOCABULARY)
        one_hot = condition[:, : VOCABULARY.classes]
        with torch.no_grad():
            painted = generator.painter(one_hot, style)
            made = scanner or SimulatedScanner.new(VOCABULARY.classes, 5, index)
            wanted = made.correction(one_hot, place, painted, VOCABULARY.context)
            image = (painted.clamp(0.005, 0.995).logit() + wanted).sigmoid()
        known = (classes > 0)[:, None].float()
        parts.append({"image": image * known, "known": known, "classes": classes, "place": place, "style": style})
    items = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return adapter_items(items, generator.painter, VOCABULARY)


def loud(generator: PaintedTranslator) -> PaintedTranslator:
    """Let the last layer say something."""
    other = copy.deepcopy(generator)
    torch.manual_seed(1)
    torch.nn.init.normal_(other.translator.out.weight, std=0.3)
    return other


def test_patients_gradients_are_their_own_whoever_else_is_there(drawing: tuple[PaintedTranslator, Drawing]) -> None:
    generator, maps = drawing
    translator = loud(generator).translator
    freeze_but(translator, adapter_sizes(1, WIDTH)[2])
    check_network(translator, COMPOSED)
    people = [Contribution(f"P{i}", person(generator, maps, i)) for i in range(3)]
    alone = dict(patient_gradients(translator, adapter_loss, people, at_once=1))
    together = dict(patient_gradients(translator, adapter_loss, people, at_once=3))
    for patient, gradient in alone.items():
        assert any(value.abs().max() > 0 for value in gradient.values())
        for name, value in gradient.items():
            torch.testing.assert_close(together[patient][name], value, rtol=1e-3, atol=1e-6)
    # A scan's loss is the same whichever other scans of hers are in the batch.
    both = people[1].items
    one: Items = {name: value[1:] for name, value in both.items()}
    torch.testing.assert_close(adapter_loss(translator, both)[1:], adapter_loss(translator, one))


def test_an_adapter_is_small_and_nothing_else_is_trained(drawing: tuple[PaintedTranslator, Drawing]) -> None:
    sizes = adapter_sizes(1, WIDTH)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] == 17
    assert adapter_sizes(1, 24)[-1] < 3000
    translator = copy.deepcopy(drawing[0].translator)
    for size in sizes:
        freeze_but(translator, size)
        names = trainable(translator)
        assert sum(value.numel() for value in names.values()) == size
        assert not any(name.endswith("noise") or "affine.weight" in name for name in names)


def test_the_quiet_translator_writes_what_it_was_trained_on(drawing: tuple[PaintedTranslator, Drawing]) -> None:
    """Generation draws noise and blurs the style; neither may reach the correction that patients were asked for."""
    generator, maps = loud(drawing[0]), drawing[1]
    with torch.no_grad():
        generator.grain.strength.zero_()
        classes, place, style, noise = maps.draw(3, "a test")
        condition = condition_tensor(classes, place, VOCABULARY)
        written = generator(condition[:, : VOCABULARY.classes], without_seams(condition, VOCABULARY), style, noise)
        painted = generator.painter(condition[:, : VOCABULARY.classes], style)
        trained_on = corrected(generator.translator, painted, without_seams(condition, VOCABULARY))
    torch.testing.assert_close(written, trained_on)
    assert not torch.allclose(written, painted, atol=0.01)


def test_pretrained_on_simulation_a_few_weights_follow_a_scanner_that_it_never_met(
    drawing: tuple[PaintedTranslator, Drawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanners, "STEPS", 60)
    generator, maps = copy.deepcopy(drawing[0]), drawing[1]
    translator = generator.translator
    with Progress(quiet=True) as progress:
        pretrain(translator, generator.painter, maps, progress)
    assert not any(bool(value.any()) for value in translator.out.parameters()), "it corrects before it has learnt"
    scanner = SimulatedScanner.new(VOCABULARY.classes, 77, 0)
    people = [person(generator, maps, index, scanner) for index in range(8)]
    freeze_but(translator, adapter_sizes(1, WIDTH)[1])
    frozen = {name: value.clone() for name, value in translator.named_parameters() if not value.requires_grad}
    assert typical_norm(translator, adapter_loss, people) > 0

    @torch.no_grad()
    def total() -> Tensor:
        return torch.cat([adapter_loss(translator, items) for items in people]).mean()

    before = float(total())
    optimiser = torch.optim.Adam(trainable(translator).values(), lr=0.02)
    for step in range(60):
        optimiser.zero_grad()
        adapter_loss(translator, people[step % 8]).mean().backward()
        optimiser.step()
    assert float(total()) < 0.8 * before
    assert all(torch.equal(dict(translator.named_parameters())[name], value) for name, value in frozen.items())
