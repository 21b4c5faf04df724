"""The model card: data, training, privacy statement and intended use, in sentences that follow from the numbers."""

from __future__ import annotations

from anonsynth.anatomy.priors import Guarantee
from anonsynth.cohort.model import CohortInfo
from anonsynth.synthesis.model import GENERATOR_FILE, ModelInfo

__all__ = ["anatomy_line", "model_card"]


def model_card(info: ModelInfo, cohort: CohortInfo) -> str:
    """Return the card of a model as Markdown; it names no patient and no source path."""
    labels = ", ".join(f"{entry.value} {entry.name}" for entry in info.source.vocabulary.labels) or "none"
    unprotected = "\n".join(f"- {item}" for item in info.unprotected)
    settings = info.settings
    return f"""# Model card

A conditional GAN that writes {", ".join(info.modalities)} for a label map (after Shin et al. 2018, arXiv 1807.10225),
trained by anonsynth {info.anonsynth}.

## Data

- {info.scans} labelled training scans of {info.patients} patients; {cohort.patients - info.patients} patients were held
  out or could not be used, and were never trained on.
- Grid: {" × ".join(map(str, info.grid.shape))} voxels of {" × ".join(f"{s:g}" for s in info.grid.spacing)} mm, RAS+;
  intensities normalised per scan to [0, 1].
- Labels: {labels}.
- Label maps for generation come from the {info.source.prior.value} prior ({info.source.reason}).
{_filled(info)}{anatomy_line(info)}
## Training

- {settings.steps} steps of {settings.batch} scans, seed {settings.seed}, {info.seconds:.0f} s on {info.machine}.
- Settings: SHA-256 `{info.settings_sha256}`; generator: SHA-256 `{info.weights_sha256[GENERATOR_FILE]}`.

## Privacy statement

{_statement(info)}
{_ledger(info)}
Read from private data without a mechanism:

{unprotected}

What a guarantee would have cost: DP-SGD with the patient as the unit (add or remove one), over the same steps, on the
discriminator alone. The last column is the best there can be; far below 1, the generator learns noise.

| ε | δ | noise multiplier | signal to noise of a step, at most |
|---|---|---|---|
{_price_rows(info)}

## Intended use

Writing a substitute cohort that is audited before it leaves. The weights themselves are not meant to leave: they are
personal data until an audit that sees them says otherwise (EDPB Opinion 28/2024). Not for diagnosis, and not for
statements about single patients. What the substitute cohort is worth for research has to be measured on held-out
patients.
"""


def _statement(info: ModelInfo) -> str:
    if info.guarantee is Guarantee.NONE:
        return (
            "**No guarantee.** The model was trained without differential privacy; nothing in its construction bounds "
            "what it reveals about a training patient. What is known about leaks is what an audit has looked for."
        )
    return f"**{info.guarantee.value}.**"


def _ledger(info: ModelInfo) -> str:
    """Return the ledger's line, composed over everything that was ever spent on the cohort, not on this model alone."""
    return f"\nIn the cohort's ledger when training ended: {info.ledger}.\n" if info.ledger else ""


def _price_rows(info: ModelInfo) -> str:
    return "\n".join(
        f"| {p.epsilon:g} | {p.delta:.1e} | {p.noise_multiplier:.2f} | {p.signal_to_noise:.1e} |" for p in info.prices
    )


def anatomy_line(info: ModelInfo) -> str:
    """Return what the card says of public label maps that were given; "" if there were none."""
    about = info.source.anatomy
    if about is None:
        return ""
    least, most = about.warp
    return (
        f"- Those maps are public and cost no patient anything (ε = 0): {about.maps} of them, bent by {least:g} to "
        f"{most:g} mm, SHA-256 of their contents `{about.sha256}`. What was cut from them is in this model, under "
        "their own licence.\n"
    )


def _filled(info: ModelInfo) -> str:
    if not info.source.filled:
        return ""
    return (
        f"- Anatomy was not labelled; MRI → label filled it in, trained for {info.settings.label_steps} steps on "
        "public anatomy under simulated contrast; the tumour label is the cohort's own.\n"
    )
