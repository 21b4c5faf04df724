"""`anonsynth plan`: what a privacy budget buys on a cohort; it spends nothing and opens no scan."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, say, table

EXAMPLE = "Example: anonsynth plan --patients 100 --shape 40,56,44 --labels 2 --epsilon 3"
RUNG = ("rung", "", "signal to noise", "worth it", "")
RELEASE = ("release", "numbers", "noise multiplier", "ε alone", "signal to noise")


def command(
    cohort: Path = typer.Argument(None, help="Folder that `anonsynth ingest` wrote; or give bare numbers."),
    policy: str = typer.Option("internal", "--policy", help="A shipped policy or a YAML file."),
    epsilon: float | None = typer.Option(None, "--epsilon", min=0.0, help="Budget; the policy's if left out."),
    delta: float | None = typer.Option(None, "--delta", help="The policy's, or 1/(10·patients), if left out."),
    patients: int | None = typer.Option(None, "--patients", min=1, help="A public figure for the training patients."),
    shape: str = typer.Option(None, "--shape", help="Grid in voxels, X,Y,Z, without a cohort."),
    labels: int = typer.Option(1, "--labels", min=1, help="Number of labels, without a cohort."),
    modalities: int = typer.Option(1, "--modalities", min=1, help="Number of modalities, without a cohort."),
    anatomy: Path = typer.Option(
        None, "--anatomy", metavar="DIR", help="Public label maps, as for train: no label prior has to be paid for."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Say which rungs a budget affords, how it is divided, and what to expect, before anything is spent."""
    from dataclasses import asdict

    from anonsynth.cli.parsing import ints3, public_maps
    from anonsynth.policies.model import load_policy
    from anonsynth.synthesis.private_plan import patients_needed
    from anonsynth.synthesis.rungs import outlooks
    from anonsynth.synthesis.settle import settle_budget, settle_facts

    rules = load_policy(policy)
    facts, counted = settle_facts(
        cohort, rules, patients, ints3("--shape", shape), labels, modalities, public_maps(anatomy, None)
    )
    epsilon, delta = settle_budget(rules, epsilon, delta, facts.patients)
    plan, every = outlooks(facts, epsilon, delta)
    needed = None if plan.worth else patients_needed(facts, epsilon)
    if json:
        told = {**plan.as_json(), "patients_counted": counted, "patients_needed": needed}
        emit({"schema": "anonsynth/plan/1", **told, "rungs": [asdict(outlook) for outlook in every]})
        return
    rows = []
    for o in every:
        says = o.says if o.built else f"{o.says}; not in this version"
        rows.append((o.rung, o.name, _ratio(o.signal_to_noise), "yes" if o.worth else "no", says))
    table(f"ε = {epsilon:g}, δ = {plan.delta:.2g}, {facts.patients} patients", RUNG, rows)
    costs = plan.costs()
    divided = [
        (q.name, q.size, f"{q.noise_multiplier:.3g}", f"{costs[q.name]:.3g}", _ratio(plan.signal_to_noise[q.name]))
        for q in plan.queries
    ]
    table("Rung 1", RELEASE, divided)
    if needed is not None:
        say(
            f"This cohort is too small for ε = {epsilon:g}: expect no more than the simulator gives (--rung 0). From "
            f"about {needed} patients on it would make sense."
        )
    if counted:
        say(
            "The number of patients was counted in the cohort and is private unless the policy says otherwise: do not "
            "pass this plan on, or give a round figure with --patients."
        )
    say("Nothing was spent, and no scan was opened.")


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
