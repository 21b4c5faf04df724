"""The pages of a release, written from what it publishes: README, datasheet, model card, the audit's public report.

Whatever was released by override says so in red at the head of every page, on paper too, and always will: the pages are
signed, and `anonsynth verify` says it as well.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from anonsynth.release.facts import ModelFacts
from anonsynth.release.numbers import interval
from anonsynth.release.public_audit import PublicAudit
from anonsynth.release.statement import Predicate

__all__ = ["banner", "pages", "report"]


def banner(override: str | None) -> str:
    """Return the head of a Markdown page: nothing, or the override in red.

    Example:
        >>> banner("For the workshop") [:31]
        '<p style="color:#a4161a;border:'
    """
    if override is None:
        return ""
    words = html.escape(" ".join(override.split()))
    return (
        '<p style="color:#a4161a;border:3px solid #a4161a;padding:.5em"><strong>RELEASED BY OVERRIDE: the gate refused '
        f"this release. Reason given: {words}</strong></p>\n\n"
    )


def pages(predicate: Predicate, model: ModelFacts, terms: Mapping[str, str], scans: int) -> dict[str, str]:
    """Return the Markdown pages by file name.

    Args:
        predicate: What the gate said.
        model: Facts of the model.
        terms: `title`, `description`, `licence` and `intended_use` of the policy.
        scans: Number of generated scans.
    """
    head = banner(predicate.override)
    return {
        "README.md": head + _readme(predicate, scans),
        "datasheet.md": head + _datasheet(predicate, model, terms, scans),
        "model_card.md": head + _card(model),
    }


def report(audit: PublicAudit, predicate: Predicate) -> str:
    """Return the public report of an audit: one HTML file, no picture, no script, no address."""
    environment = Environment(
        loader=PackageLoader("anonsynth.release"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    controls = []
    for control in audit.controls:
        low, high = interval(control.detected, control.planted, audit.rules.confidence)
        controls.append((control, low, high))
    template = environment.get_template("report.html.j2")
    return template.render(audit=audit, predicate=predicate, controls=controls)


def _readme(predicate: Predicate, scans: int) -> str:
    checks = "\n".join(f"| {check.id} | {check.verdict} | {_cell(check.says)} |" for check in predicate.checks)
    return f"""# Release of a substitute cohort

{scans} generated scans with their label maps, in `dataset/` (BIDS). Released on {predicate.released} with anonsynth
{predicate.anonsynth} under the policy `{predicate.policy.id}`, version {predicate.policy.version}. Verdict of the gate:
**{predicate.verdict}**.

Check it with the public key of whoever released it, which you have from them and not from this folder:
`anonsynth verify RELEASE --key anonsynth.pub`. By hand, every file: `sha256sum -c manifest.sha256`.

| file | what it holds |
|---|---|
| `dataset/` | scans, label maps, metadata; `participants.json` is the data dictionary |
| `datasheet.md`, `model_card.md` | what the data are, how they were made, what is guaranteed and what is not |
| `audit/report.html`, `audit/audit.json` | the public edition of the audit |
| `policy.json` | the policy, with every rule that held |
| `sbom.cdx.json` | the software (CycloneDX) |
| `manifest.sha256`, `statement.dsse.json` | hashes of every file; the signed statement (in-toto in DSSE, Ed25519) |

## What the gate asked

| question | answer | |
|---|---|---|
{checks}

The numbers of an audit are computed from patients without a mechanism: a guarantee of the model covers scans and label
maps, not these numbers. A policy claims no compliance with any law; it says what was tested.
"""


def _datasheet(predicate: Predicate, model: ModelFacts, terms: Mapping[str, str], scans: int) -> str:
    labels = ", ".join(f"{value} {name}" for value, name in model.labels) or "none"
    approvals = "\n".join(f"- {role}: {name}" for role, name in predicate.approvals.items()) or "- none was asked for"
    size, spacing = " × ".join(map(str, model.shape)), " × ".join(f"{s:g}" for s in model.spacing)
    return f"""# Datasheet

After Gebru et al. 2021 (arXiv:1803.09010).

- **What it is**: {scans} generated scans ({", ".join(model.modalities)}), {size} voxels of {spacing} mm, with label
  maps ({labels}). Nobody was scanned for them, and they are evidence about no person.
- **How it was made**: a generator writes scans for label maps drawn from the {model.prior} prior
  ({model.prior_reason}); see `model_card.md`.
- **What is guaranteed**: {model.guarantee}; see `model_card.md` for the paragraph to quote.
- **What was tested**: `audit/report.html`; by the policy `{predicate.policy.id}` ({terms["title"]}).
- **Intended use**: {terms["intended_use"]}.
- **Terms**: {terms["licence"]}.
- **What is not in it**: absolute intensities, differences between scanners, rare findings. Scans of one participant
  share a label map: split by participant. Confirm on real scans whatever you find.
- **Not for** diagnosis, and not for attempts to find out who was trained on.

Approved by:

{approvals}

The policy's own words: {" ".join(terms["description"].split())}
"""


def _card(model: ModelFacts) -> str:
    read = "\n".join(f"- {item}" for item in model.unprotected) or "- nothing"
    ledger = "The cohort's ledger was not shown to the gate."
    if model.ledger is not None:
        noted = f"; its head is `{model.ledger.head}`" if model.ledger.head else ""
        ledger = f"In the cohort's ledger at release: {model.ledger.statement}{noted}."
    return f"""# Model card

Made by anonsynth {model.anonsynth}; SHA-256 of its `model.json`: `{model.model_sha256}`. The weights are not in this
release.

{model.paragraph}

{ledger}

Read or told without a mechanism:

{read}
"""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
