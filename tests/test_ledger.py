"""The ledger: nothing is spent twice, beyond the budget or unseen, whatever is killed, raced or tampered with."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from conftest import make_tiny_cohort
from spending_process import FREE, NOISY, SCANS, compete, spend
from typer.testing import CliRunner

from anonsynth.cli.main import app
from anonsynth.cohort.store import Cohort
from anonsynth.errors import BudgetError, InputError, UsageError, VerdictError
from anonsynth.policies.model import Policy, SynthesisRules, load_policy
from anonsynth.privacy import ledger as ledger_module
from anonsynth.privacy.accountant import epsilon_of
from anonsynth.privacy.chain import Row, chained
from anonsynth.privacy.declare import LEDGER_FILE, Step, declare, fingerprint, ledger_of, standing
from anonsynth.privacy.events import Gaussian, NoGuarantee, Promise
from anonsynth.privacy.ledger import Ledger
from anonsynth.privacy.spending import Budget, Spend, StepKind


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / LEDGER_FILE)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return make_tiny_cohort(tmp_path / "Doe_Jane" / "cohort", patients=6, holdout=2)


def change(ledger: Ledger, *statements: str, free: bool = True) -> None:
    """Do to the file what anonsynth would not; with `free` its triggers are taken away for the time."""
    with closing(sqlite3.connect(ledger.path)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers if free else ():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers if free else ():
            connection.execute(sql)
        connection.commit()


def test_what_is_spent_is_there_and_composes(ledger: Ledger) -> None:
    assert ledger.read().statement() == "nothing has been spent"
    ledger.spend(spend("one"), FREE)
    ledger.spend(spend("two", NOISY, Promise(epsilon=0.1)), Budget("another"))
    history = ledger.read()
    assert [entry.id for entry in history.entries] == ["one", "two"]
    assert history.cohort == SCANS
    assert history.protected_events == (NOISY, NOISY, Promise(epsilon=0.1))
    cost = epsilon_of(history.protected_events, 1e-3)
    assert history.statement().startswith("ε = ")
    assert cost <= float(history.statement().split()[2]) <= cost + 1e-3
    assert "δ = 0.001 per patient (one patient more or less), composed over 2 steps" in history.statement()
    with pytest.raises(UsageError, match="one whole patient"):
        history.statement(0.01)


def test_a_step_without_a_mechanism_ends_the_guarantee(ledger: Ledger) -> None:
    ledger.spend(spend("bare", NoGuarantee()), FREE)
    assert ledger.read().statement() == "no guarantee: 1 step without a mechanism"
    ledger.spend(spend("noisy"), FREE)
    assert (
        ledger.read().statement().startswith("no guarantee: 1 step without a mechanism, besides 1 step with one that")
    )


def test_a_step_is_spent_once_and_an_id_means_one_thing(ledger: Ledger) -> None:
    first = ledger.spend(spend("one"), FREE)
    assert ledger.spend(spend("one"), FREE) == first
    # Even if meanwhile the budget would not hold it: it is spent already.
    assert ledger.spend(spend("one"), Budget("internal", epsilon=1e-3)) == first
    assert len(ledger.read().entries) == 1
    for other, budget in (
        (spend("one", Gaussian(noise_multiplier=5.0)), FREE),
        (spend("one", step=StepKind.AUDIT), FREE),
        (spend("one"), Budget("another")),
    ):
        with pytest.raises(UsageError, match="a step has one cost"):
            ledger.spend(other, budget)
    assert len(ledger.read().entries) == 1


def test_a_budget_counts_what_any_policy_spent(ledger: Ledger) -> None:
    two = epsilon_of([NOISY, NOISY], 1e-3)
    strict = Budget("strict", epsilon=two)
    ledger.spend(spend("one"), FREE)
    ledger.spend(spend("two"), strict)
    with pytest.raises(BudgetError, match=r"policy 'strict' allows ε = .* is spent and .* would be") as caught:
        ledger.spend(spend("three"), strict)
    assert caught.value.status == 5
    assert "\n" not in str(caught.value)
    assert len(ledger.read().entries) == 2
    with pytest.raises(UsageError, match="1/patients"):
        ledger.spend(spend("three"), Budget("loose", epsilon=100.0, delta=0.01))


def test_a_guarantee_needs_a_mechanism_in_every_step(ledger: Ledger) -> None:
    guarantee = Budget("strict", guarantee=True)
    with pytest.raises(VerdictError, match="policy 'strict' asks for a guarantee and the training step has no mechan"):
        ledger.spend(spend("bare", NoGuarantee(), step=StepKind.TRAINING), guarantee)
    assert not ledger.path.exists()
    ledger.spend(spend("noisy"), guarantee)
    ledger.spend(spend("bare", NoGuarantee()), FREE)
    with pytest.raises(BudgetError, match="already holds 1 step without a mechanism"):
        ledger.spend(spend("noisy again"), guarantee)


def test_a_refused_first_step_leaves_a_ledger_that_is_whole(ledger: Ledger) -> None:
    with pytest.raises(BudgetError, match="0 of it is spent"):
        ledger.spend(spend("one"), Budget("strict", epsilon=1e-3))
    assert ledger.check().intact
    assert ledger.read().entries == ()


@pytest.mark.parametrize("private", ["Doe^Jane", "/home/doe", "C:\\doe", "jane@doe.org", "x\ny", ""])
def test_private_strings_cannot_be_written(private: str) -> None:
    for field in ("id", "what"):
        with pytest.raises(ValueError, match="String should"):
            Spend.model_validate({**dict(spend("one")), field: private})


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET body = '{}' WHERE number = 1",
        "DELETE FROM entry WHERE number = 2",
        "INSERT OR REPLACE INTO entry VALUES (1, '{}', 'x')",
        "INSERT INTO entry VALUES (9, '{}', 'x')",
    ],
)
def test_the_file_itself_refuses_changes(ledger: Ledger, statement: str) -> None:
    for name in ("one", "two"):
        ledger.spend(spend(name), FREE)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        change(ledger, statement, free=False)
    assert ledger.check(cohort=SCANS).intact


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        (["UPDATE entry SET body = replace(body, '4.0', '9.0') WHERE number = 2"], "entry 2 is not what was written"),
        (["UPDATE entry SET hash = upper(hash) WHERE number = 1"], "entry 1 is not what was written"),
        (["DELETE FROM entry WHERE number = 1"], "entry 1 is missing"),
        (["DELETE FROM entry WHERE number = 0"], "entry 0 is missing"),
        (
            ["DELETE FROM entry WHERE number = 1", "UPDATE entry SET number = number - 1 WHERE number > 1"],
            "entry 1 is not what was written there, or an entry before it was taken out",
        ),
        (["DELETE FROM entry"], "no first entry"),
        (["DROP TABLE IF EXISTS entry", "CREATE TABLE entry (number, body, hash)"], "no first entry"),
        (["CREATE TABLE notes (x)"], "rules against change"),
    ],
)
def test_what_was_tampered_with_is_named_and_nothing_more_is_spent(
    ledger: Ledger, statements: list[str], sentence: str
) -> None:
    for name in ("one", "two", "three"):
        ledger.spend(spend(name), FREE)
    change(ledger, *statements)
    checked = ledger.check()
    assert not checked.intact
    assert sentence in checked.sentence
    if "entry" in sentence and "first" not in sentence:
        for act in (ledger.read, lambda: ledger.spend(spend("four"), FREE)):
            with pytest.raises(InputError, match="ledger is broken"):
                act()


def test_triggers_that_are_gone_are_missed(ledger: Ledger) -> None:
    ledger.spend(spend("one"), FREE)
    change(ledger, "DROP TRIGGER no_removal", free=False)
    assert "rules against change" in ledger.check().sentence


def test_a_tail_that_was_cut_off_is_seen_by_whoever_noted_the_head(ledger: Ledger) -> None:
    ledger.spend(spend("one"), FREE)
    ledger.spend(spend("two"), FREE)
    head = ledger.check().head
    ledger.spend(spend("three"), FREE)
    assert ledger.check(noted=head[:10].upper()).intact
    change(ledger, "DELETE FROM entry WHERE number > 1")
    assert ledger.check().intact, "the chain alone cannot see it"
    assert "the head that was noted is not in it" in ledger.check(noted=head).sentence
    with pytest.raises(UsageError, match="8 digits"):
        ledger.check(noted=head[:4])


def test_an_entry_that_was_made_up_by_somebody_who_knows_the_chain_needs_the_head_too(ledger: Ledger) -> None:
    ledger.spend(spend("one"), FREE)
    head = ledger.check().head
    with closing(sqlite3.connect(ledger.path)) as connection:
        rows = [Row(*row) for row in connection.execute("SELECT * FROM entry ORDER BY number")]
    weaker = chained(rows[0], rows[1].body.replace("4.0", "9.0"))
    change(ledger, f"UPDATE entry SET body = '{weaker.body}', hash = '{weaker.hash}' WHERE number = 1")  # noqa: S608
    assert ledger.check().intact
    assert not ledger.check(noted=head).intact


def test_another_cohorts_ledger_is_told(ledger: Ledger) -> None:
    ledger.spend(spend("one"), FREE)
    assert "another cohort's" in ledger.check(cohort="cd" * 32).sentence
    # Ingested again, it is spent on as before, and what was spent before still counts.
    ledger.spend(spend("two", cohort="cd" * 32), FREE)
    assert ledger.check(cohort="cd" * 32).intact
    assert len(ledger.read().protected_events) == 2


@pytest.mark.parametrize(("content", "sentence"), [(b"", "no first entry"), (b"no database" * 100, "damaged")])
def test_a_file_that_is_no_ledger_is_told(ledger: Ledger, content: bytes, sentence: str) -> None:
    ledger.path.write_bytes(content)
    if content:
        with pytest.raises(InputError, match=sentence):
            ledger.check()
    else:  # a process was killed before its first commit
        assert sentence in ledger.check().sentence
        ledger.spend(spend("one"), FREE)
        assert ledger.check().intact


def test_what_cannot_be_opened_is_one_sentence_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Doe").mkdir()
    with pytest.raises(InputError, match="a step that is not in it must not run; make the cohort's folder") as caught:
        Ledger(tmp_path / "Doe").spend(spend("one"), FREE)
    assert "Doe" not in str(caught.value)
    with pytest.raises(InputError, match="nothing was ever declared"):
        Ledger(tmp_path / "absent").check()
    held = Ledger(tmp_path / "held")
    held.spend(spend("one"), FREE)
    monkeypatch.setattr(ledger_module, "WAIT", 0.05)
    with closing(sqlite3.connect(held.path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(InputError, match="another process has held"):
            held.spend(spend("two"), FREE)
    change(held, "PRAGMA user_version = 2")
    with pytest.raises(InputError, match="newer version"):
        held.read()


def test_processes_that_race_for_the_last_of_a_budget_cannot_all_have_it(ledger: Ledger) -> None:
    epsilon = epsilon_of([NOISY] * 3, 1e-3)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    racers = [context.Process(target=compete, args=(ledger.path, name, epsilon, start)) for name in ("a", "b")]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(120)
        assert racer.exitcode == 0
    assert len(ledger.read().entries) == 3
    assert ledger.check(cohort=SCANS).intact


def test_killed_at_any_moment_it_holds_at_least_what_was_spent(ledger: Ledger) -> None:
    chance = random.Random(5)  # noqa: S311 - when to kill, not a secret
    before = 0
    for _ in range(10):
        command = [sys.executable, str(Path(__file__).parent / "spending_process.py"), str(ledger.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            # Every writer walks through what is there already before it adds anything.
            ran = sum(bool(writer.stdout.readline()) for _ in range(before + chance.randrange(1, 6)))
            writer.send_signal(signal.SIGKILL)
            ran += len(writer.stdout.readlines())
        assert ledger.check(cohort=SCANS).intact
        entries = ledger.read().entries
        assert [entry.id for entry in entries] == [f"step {number}" for number in range(len(entries))]
        assert ran <= len(entries) <= max(ran, before) + 1
        before = len(entries)
    assert before > 6


def test_a_cohorts_steps_are_declared_once_under_each_policy(cohort: Cohort) -> None:
    steps = (Step("look", StepKind.SELECTION, "which prior fits"), Step("fit", StepKind.PRIOR, "label maps"))
    for _ in range(2):
        declare(cohort, load_policy("internal"), "run1", *steps)
    assert standing(cohort) == "no guarantee: 2 steps without a mechanism"
    declare(cohort, load_policy("research-exchange"), "run1", steps[0])
    assert standing(cohort) == "no guarantee: 3 steps without a mechanism"
    history = ledger_of(cohort.folder).read()
    assert {entry.patients for entry in history.entries} == {4}
    assert history.cohort == fingerprint(cohort.folder)
    assert b"Doe" not in (cohort.folder / LEDGER_FILE).read_bytes()


def test_a_policys_budget_is_the_ledgers(cohort: Cohort) -> None:
    rules = SynthesisRules(guarantee=True, epsilon=1.2, delta=1e-5)
    policy = Policy(id="strict", title="strict", description="strict", synthesis=rules)
    assert Budget.of(policy) == Budget("strict", guarantee=True, epsilon=1.2, delta=1e-5)
    step = Step("histogram", StepKind.STATISTICS, "intensities", (Gaussian(noise_multiplier=4.0),))
    declare(cohort, policy, "run1", step)
    with pytest.raises(BudgetError):
        declare(cohort, policy, "run2", step)


def told(*arguments: str) -> str:
    ended = CliRunner().invoke(app, ["ledger", *arguments], env={"COLUMNS": "250"})
    if ended.exception:
        raise ended.exception
    return ended.stdout


def test_the_command_shows_everything_and_its_cost(cohort: Cohort) -> None:
    assert "nothing has been spent" in told("show", str(cohort.folder))
    step = Step("histogram", StepKind.STATISTICS, "intensities", (NOISY,))
    declare(cohort, load_policy("internal"), "run1", step)
    shown = told("show", str(cohort.folder))
    assert "normal noise 4" in shown
    assert "All together: ε = " in shown
    value = json.loads(told("show", str(cohort.folder / LEDGER_FILE), "--json"))
    assert value["schema"] == "anonsynth/ledger-show/1"
    assert value["epsilon"] == epsilon_of([NOISY], 1 / 40)
    assert [entry["policy"] for entry in value["entries"]] == ["internal"]
    declare(cohort, load_policy("internal"), "run2", Step("fit", StepKind.PRIOR, "label maps"))
    value = json.loads(told("show", str(cohort.folder), "--delta", "0.001", "--json"))
    assert (value["epsilon"], value["unprotected_steps"], value["delta"]) == (None, 1, 0.001)
    assert value["epsilon_of_protected_steps"] == epsilon_of([NOISY], 0.001)


def test_the_command_verifies(cohort: Cohort) -> None:
    with pytest.raises(InputError, match="nothing was ever declared"):
        told("verify", str(cohort.folder))
    declare(cohort, load_policy("internal"), "run1", Step("fit", StepKind.PRIOR, "label maps"))
    ledger = ledger_of(cohort.folder)
    assert f"In order: the chain of 1 entry is unbroken.\nHead: {ledger.check().head}" in told(
        "verify", str(cohort.folder)
    )
    change(ledger, "UPDATE entry SET body = '{}' WHERE number = 1")
    with pytest.raises(VerdictError, match="entry 1 is not what was written"):
        told("verify", str(cohort.folder))
    ended = CliRunner().invoke(app, ["ledger", "verify", str(cohort.folder), "--json"])
    assert isinstance(ended.exception, VerdictError)
    assert json.loads(ended.stdout)["intact"] is False
    for absent in (cohort.folder / "absent", cohort.folder.parent):
        with pytest.raises(InputError):
            told("verify", str(absent))
