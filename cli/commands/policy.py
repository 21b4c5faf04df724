"""`anonsynth policy`: list, show, check, compare and explain what a policy asks for."""

from __future__ import annotations

import typer

from anonsynth.cli.output import emit, say, table

EXAMPLE = "Example: anonsynth policy explain research-exchange"
app = typer.Typer(
    help="What may be kept, what may be spent, what must be shown: list, show, check, diff, explain.",
    epilog=EXAMPLE,
    no_args_is_help=True,
)
NAMED = typer.Argument(..., metavar="POLICY", help="The name of a shipped policy, or a YAML file.")
JSON = typer.Option(False, "--json", help="Print one JSON object on stdout.")


@app.command("list", epilog="Example: anonsynth policy list")
def list_(json: bool = JSON) -> None:
    """List the policies that come with anonsynth."""
    from anonsynth.policies.model import load_policy, shipped_policies

    policies = [load_policy(name) for name in shipped_policies()]
    if json:
        rows = [{"id": policy.id, "version": policy.version, "title": policy.title} for policy in policies]
        emit({"schema": "anonsynth/policy-list/1", "policies": rows})
        return
    table("Policies", ("policy", "version", "title"), [(p.id, p.version, p.title) for p in policies])
    say("What one asks for and why: anonsynth policy explain POLICY")


@app.command(epilog="Example: anonsynth policy show research-exchange > mine.yaml")
def show(policy: str = NAMED) -> None:
    """Print a policy's YAML, to read it or to start a policy of your own."""
    from anonsynth.policies.model import read_policy_text

    typer.echo(read_policy_text(policy), nl=False)


@app.command(epilog="Example: anonsynth policy check mine.yaml")
def check(policy: str = NAMED, json: bool = JSON) -> None:
    """Check a policy file; a wrong key names the nearest right one."""
    from anonsynth.policies.model import load_policy

    loaded = load_policy(policy)
    if json:
        emit({"schema": "anonsynth/policy-check/1", "valid": True, "policy": loaded.model_dump(mode="json")})
        return
    say(f"The policy '{loaded.id}' is valid. What it asks for: anonsynth policy explain {policy}")


@app.command(epilog="Example: anonsynth policy diff internal research-exchange")
def diff(
    policy: str = NAMED,
    other: str = typer.Argument(..., metavar="OTHER", help="The policy to compare it with."),
    json: bool = JSON,
) -> None:
    """Say in which rules two policies differ."""
    from anonsynth.policies.explain import differences
    from anonsynth.policies.model import load_policy

    one, two = load_policy(policy), load_policy(other)
    pairs = differences(one, two)
    if json:
        rules = [{"key": a.key, "values": [a.value, b.value], "meaning": a.meaning} for a, b in pairs]
        emit({"schema": "anonsynth/policy-diff/1", "policies": [one.id, two.id], "rules": rules})
        return
    table("Rules that differ", ("rule", one.id, two.id), [(a.key, a.value, b.value) for a, b in pairs])


@app.command(epilog=EXAMPLE)
def explain(policy: str = NAMED, json: bool = JSON) -> None:
    """Say of every rule what it does here and what it rests on."""
    from dataclasses import asdict

    from anonsynth.policies.explain import explain as lines_of
    from anonsynth.policies.model import load_policy

    loaded = load_policy(policy)
    lines = lines_of(loaded)
    if json:
        emit({"schema": "anonsynth/policy-explain/1", "policy": loaded.id, "rules": [asdict(line) for line in lines]})
        return
    typer.echo(f"{loaded.id}, version {loaded.version}: {loaded.title}\n{loaded.description}\n")
    for line in lines:
        default = "" if line.given else "  (default)"
        typer.echo(f"{line.key}: {line.value}{default}\n    {line.meaning}\n    Rests on: {line.rests_on}\n")
    typer.echo("A policy is a rule book of this site. It claims no legal compliance.")
