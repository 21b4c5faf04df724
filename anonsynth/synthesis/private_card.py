"""The card of a model of the ladder: the guarantee in one paragraph, and what it rests on."""

from __future__ import annotations

import math

from anonsynth.anatomy.priors import Guarantee
from anonsynth.synthesis.card import anatomy_line
from anonsynth.synthesis.model import GENERATOR_FILE, Bought, ModelInfo

__all__ = ["guarantee_line", "guarantee_paragraph", "private_card"]


def private_card(info: ModelInfo) -> str:
    """Return the card as Markdown; nothing on it depends on patients but what was released."""
    labels = ", ".join(f"{entry.value} {entry.name}" for entry in info.source.vocabulary.labels) or "none"
    unprotected = "\n".join(f"- {item}" for item in info.unprotected) or "- nothing"
    return f"""# Model card

Writes {", ".join(info.modalities)} for drawn label maps: intensities painted by class, texture, grain and rims. Made by
anonsynth {info.anonsynth}, {_origin(info)}.

- Grid: {" × ".join(map(str, info.grid.shape))} voxels of {" × ".join(f"{s:g}" for s in info.grid.spacing)} mm, RAS+;
  intensities normalised per scan to [0, 1].
- Labels: {labels}.
- Label maps come from the {info.source.prior.value} prior ({info.source.reason}).
{anatomy_line(info)}- Settings: SHA-256 `{info.settings_sha256}`.
- Generator: SHA-256 `{info.weights_sha256[GENERATOR_FILE]}`.

## Privacy statement

{guarantee_paragraph(info)}
{_ledger(info)}
Told without a mechanism:

{unprotected}
{_releases(info.bought)}
## Intended use

Writing a substitute cohort that is audited before it leaves. Not for diagnosis, and not for statements about single
patients. What the substitute cohort is worth for research has to be measured on held-out patients.
"""


def guarantee_paragraph(info: ModelInfo) -> str:
    """Return the guarantee as one paragraph to quote, in the terms of NIST SP 800-226."""
    if info.guarantee is Guarantee.PUBLIC:
        return (
            "**No patient was read.** The model was made from public constants and simulated anatomy alone; its "
            "weights and everything generated from them are independent of every patient (ε = 0)."
        )
    if info.bought is None:
        return (
            "**No guarantee.** No scan was read, but what is listed below was taken from the cohort without a "
            "mechanism and without anybody having said that it is public."
        )
    bought = info.bought
    claim = (
        f"The model is (ε, δ)-differentially private with ε = {_upwards(bought.epsilon)} and δ = {bought.delta:.2g}. "
        "The unit of privacy is the patient: all scans, modalities and label maps of a person together. Neighbouring "
        "data sets are two sets of training patients of the prepared cohort of which one has one patient more (add or "
        f"remove one; unbounded). The mechanism is the Gaussian mechanism on {len(bought.releases)} sums over "
        "patients, each patient's vector clipped to a public bound, with noise from the operating system's "
        f"randomness{_descent(bought)}; ε composes all of them and was computed with privacy-loss distributions. "
        "Covered are this model's weights, its label prior, this card, and every scan and label map generated from "
        "them, in any number, whatever else an attacker knows. Not covered are the cohort's folder and its ledger, "
        "which stay private; what was decided before training about who is in the cohort and its split; other "
        "models and numbers made from the same patients, whose ε the ledger adds to this one; and what is true of "
        "patients in general, which a study may teach whether or not a person took part."
    )
    if info.unprotected:
        return (
            "**No guarantee for the model as a whole:** what is listed below was told without a mechanism. But for "
            f"that: {claim[0].lower()}{claim[1:]}"
        )
    return f"**Differential privacy.** {claim}"


def guarantee_line(info: ModelInfo) -> str:
    """Return the guarantee in one line, for a terminal; the paragraph on the card is the one to quote."""
    if info.bought is None:
        held = "reads no patient (ε = 0)"
    else:
        held = f"ε = {_upwards(info.bought.epsilon)} at δ = {info.bought.delta:.2g} per patient"
    told = f"; no guarantee for the model as a whole, which tells {', '.join(info.unprotected)}"
    return f"rung {info.bought.rung if info.bought else 0}: {held}{told if info.unprotected else ''}"


def _descent(bought: Bought) -> str:
    """Return what the guarantee says of DP-SGD, as part of its sentence on the mechanism."""
    if bought.training is None:
        return ""
    at = bought.training
    prior = "the label prior among them" if bought.coefficients else "label maps coming from a public atlas"
    return (
        f", {prior}, and DP-SGD: {at['steps']} steps, each the Gaussian mechanism with noise multiplier "
        f"{at['noise_multiplier']:.4g} on the sum of patients' gradients, one gradient for all scans of a patient, "
        f"clipped over all {at['weights']} weights together to {at['clipping_norm']:.3g}, and each patient taking part "
        f"in a step with probability {at['sampling_rate']:g}, independently of all others (Poisson sampling); "
        "everything else is made of these without looking at patients again, and the proof is for real numbers, to "
        "which the arithmetic of the gradients is an approximation"
    )


def _origin(info: ModelInfo) -> str:
    if info.bought is None:
        return "rung 0: public constants, no patient"
    also = f", and {info.bought.learnt}" if info.bought.learnt else ""
    return f"rung {info.bought.rung}: statistics of about {info.bought.patients} training patients, with noise{also}"


def _ledger(info: ModelInfo) -> str:
    """Return the ledger's line, composed over everything that was ever spent on the cohort, not on this model alone."""
    return f"\nIn the cohort's ledger when training ended: {info.ledger}.\n" if info.ledger else ""


def _releases(bought: Bought | None) -> str:
    if bought is None:
        return ""
    rows = "\n".join(
        f"| {r['name']} | {r['numbers']} | {float(r['clipped_at']):.3g} | {float(r['noise_multiplier']):.3g} | "
        f"{_upwards(float(r['epsilon_alone']))} | {float(r['signal_to_noise']):.2g} |"
        for r in bought.releases
    )
    public = "\n".join(f"- {item}" for item in bought.public)
    return f"""
Released of patients, each a sum with normal noise; the last column is what the plan expected:

| release | numbers | clipped at | noise multiplier | ε alone | signal to noise |
|---|---|---|---|---|---|
{rows}
{_training(bought)}
Taken to be public:

{public}
"""


def _training(bought: Bought) -> str:
    if bought.training is None:
        return ""
    at = bought.training
    return f"""
Trained on patients with DP-SGD: {bought.learnt}.

| weights | steps | sampling rate | clipped at | noise multiplier | ε alone | signal to noise at best |
|---|---|---|---|---|---|---|
| {at["weights"]} | {at["steps"]} | {at["sampling_rate"]:g} | {at["clipping_norm"]:.3g} \
| {at["noise_multiplier"]:.4g} | {_upwards(at["epsilon_alone"])} | {at["signal_to_noise"]:.2g} |
"""


def _upwards(epsilon: float) -> str:
    return f"{math.ceil(epsilon * 1000) / 1000:g}"
