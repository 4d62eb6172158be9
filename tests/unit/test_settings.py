from __future__ import annotations

import contextlib
import os
import tomllib
from pathlib import Path

import pytest
from pydantic_ai.providers import infer_provider_class

from orchestrion import Orchestrion
from orchestrion.domain import Usage
from orchestrion.errors import SettingsError
from orchestrion.settings import PROVIDERS, Settings, read_settings, secret
from orchestrion.workers import providers


@pytest.fixture
def said(tmp_path):
    """What is said of a settings file with this text, from behind the file's name."""

    def read(text, *, raw=None):
        file = tmp_path / "orchestrion.yaml"
        file.write_bytes(raw if raw is not None else text.encode())
        with pytest.raises(SettingsError) as caught:
            read_settings(file)
        assert caught.value.exit_status == 2
        message = str(caught.value)
        assert message.startswith(str(file))
        return message.removeprefix(str(file))

    return read


def test_a_whole_file(tmp_path):
    file = tmp_path / "orchestrion.yaml"
    file.write_text(
        "database: sqlite:///data/o.db\nrecord: digest\nkeep_days: 30\n"
        'models:\n  cheap: {model: "openai-chat:gpt-5.4-mini", api_key: "env:K", price: {input: 0.1, output: 0.4, cache_read: 0.01}}\n'
        "policies: {triage: policies/triage.json}\nbudgets:\n  company: {limit: 10.5, period: month}\n"
    )
    settings = read_settings(file)
    assert settings.database_path == tmp_path / "data/o.db"
    assert settings.path(settings.policies["triage"]) == tmp_path / "policies/triage.json"
    given = settings.models["cheap"].price
    assert given
    price = given.price()
    assert (price.input, price.output, price.cache_read, price.cache_write) == (
        100_000_000,
        400_000_000,
        10_000_000,
        None,
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "null"])
def test_an_empty_file_means_the_defaults(tmp_path, text):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    assert read_settings(file).models == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("databse: x\n", ":1:1: there is no setting 'databse'. Did you mean 'database'?"),
        (
            "models:\n  a:\n    model: simulated\n    skil: 1\n",
            ":4:5: there is no setting 'models.a.skil'. Did you mean 'skill'?",
        ),
        (
            "models:\n  a: {model: simulated, price: {input: 1, output: 2, cached: 1}}\n",
            ":2:54: there is no setting 'models.a.price.cached'. Did you mean 'cache_read'?",
        ),
        ("models:\n  a: {skill: 1}\n", ":2:3: 'models.a.model' is missing."),
        (
            "models:\n  a: {model: simulated, skill: 2}\n",
            ":2:25: 'models.a.skill': Input should be less than or equal to 1 (it says 2).",
        ),
        (
            "models:\n  a: {model: 'antropic:claude'}\n",
            ":2:7: 'models.a.model': 'antropic:claude' is not a model: write KIND:NAME or 'simulated'. Kinds: openai-chat, alibaba, anthropic,",
        ),
        (
            "models:\n  a: {model: 'anthropic:claude', request: {max_tokens: 9}}\n",
            ":2:34: 'models.a.request': 'max_tokens' is set by Orchestrion: with another, a call could cost more than was held "
            "(max_output limits an answer).",
        ),
        (
            "models:\n  a: {model: 'anthropic:claude', request: {temperatur: 0}}\n",
            ":2:34: 'models.a.request': 'temperatur' cannot be sent to anthropic models. Did you mean 'temperature'.",
        ),
        (
            "models:\n  a: {model: 'anthropic:claude', request: {cache: 1h}}\n",
            ":2:34: 'models.a.request': 'cache' is true, false or '5m' here",
        ),
        ("models:\n  a: {model: 'openai-chat:'}\n", ":2:7: 'models.a.model': 'openai-chat:' is not a model"),
        *(
            (f"models:\n  a: {{model: 'openai-chat:m', base_url: '{url}'}}\n", f":2:31: 'models.a.base_url': {said}")
            for url, said in (
                ("localhost:1/v1", "'localhost:1/v1' is not a URL"),
                ("https://", "'https://' is not a URL"),
                ("http://h:99999/v1", "'http://h:99999/v1' is not a URL"),
                ("http://[::1/v1", "'http://[::1/v1' is not a URL"),
                (
                    "http://me:hunter2@h/v1",
                    "an address has no name or password in it: `api_key: env:NAME` names a key.",
                ),
                ("http://h/v1?api-version=3", "'http://h/v1?api-version=3' goes on too far"),
                ("http://h/v1/chat/completions/", "'http://h/v1/chat/completions/' goes on too far"),
            )
        ),
        ("database: mysql://x\n", ":1:1: 'database': 'mysql://x' is not a database"),
        (
            "budgets: {a: {limit: -1}}\n",
            ":1:15: 'budgets.a.limit': Input should be greater than or equal to 0 (it says -1).",
        ),
        ("budgets: {a: {limit: .inf}}\n", ":1:15: 'budgets.a.limit'"),
        ("budgets: {a: 5}\n", ":1:11: 'budgets.a': a limit stands in braces: `a: {limit: 5, period: month}`."),
        ("budgets: {a: {limit: .nan}}\n", ":1:15: 'budgets.a.limit'"),
        ("budgets: {a: {limit: 9100000000}}\n", ":1:15: 'budgets.a.limit'"),
        ("budgets: {a: {limit: true}}\n", ":1:15: 'budgets.a.limit': True is not an amount in dollars"),
        (
            "budgets: {a: {limit: 10 EUR}}\n",
            ":1:15: 'budgets.a.limit': '10 EUR' is not an amount in dollars: write a number, such as 10.50.",
        ),
        ("budgets: {a: {currency: EUR}}\n", ":1:15: 'budgets.a.currency': 'EUR': accounts are kept in US dollars"),
        ("budgets: {a: {tokens: 1.5}}\n", ":1:15: 'budgets.a.tokens'"),
        ("budgets: {a: {minutes: -1}}\n", ":1:15: 'budgets.a.minutes'"),
        ("budgets: {a: {clas: standard}}\n", ":1:15: there is no setting 'budgets.a.clas'. Did you mean 'class'?"),
        ("budgets: {a: {class: high}}\n", ":1:15: 'budgets.a.class': Input should be 'critical', 'standard' or"),
        (
            "budgets: {a: {limits: [{limt: 1}]}}\n",
            ":1:25: there is no setting 'budgets.a.limits.0.limt'. Did you mean 'limit'?",
        ),
        ("budgets: {a: {limits: [{}]}}\n", ":1:24: 'budgets.a.limits.0': a limit of what?"),
        ("budgets: {a: {period: month}}\n", ":1:11: 'budgets.a': `period: month` of what?"),
        (
            "budgets:\n  a:\n    limit: 1\n    limits: [{limit: 1}, {limit: 2}]\n",
            ":4:26: 'budgets.a.limits.1': two limits contradict each other: limit for good has another amount above.",
        ),
        (
            "budgets: {a: {time_zone: Europe/Berln}}\n",
            ":1:15: 'budgets.a.time_zone': 'Europe/Berln' is not a time zone. Did you mean 'Europe/Berlin'?",
        ),
        *(
            (
                f"budgets: {{a: {{time_zone: '{zone}'}}}}\n",
                f":1:15: 'budgets.a.time_zone': '{zone}' is not a time zone.",
            )
            for zone in ("", "Mars", "/etc/passwd", "Europe", "../UTC")
        ),
        ("budgets: {a: {warn: [0.5, 0]}}\n", ":1:27: 'budgets.a.warn.1'"),
        ("budgets: {a: {warn: [1.01]}}\n", ":1:22: 'budgets.a.warn.0'"),
        ("budgets: {a: {wait_s: .inf}}\n", ":1:15: 'budgets.a.wait_s'"),
        ("budgets:\n  ok: {}\n  a//b: {}\n", ":3:3: 'budgets.a//b': 'a//b' is not the name of an account"),
        ("budgets: {/a: {}}\n", ":1:11: 'budgets./a': '/a' is not the name of an account"),
        (
            "budgets:\n  company: {}\n  compny/support: {}\n",
            ":3:3: 'budgets.compny/support': there is no account 'compny' above it. Did you mean 'company'? "
            "`compny: {}` is one without limits of its own.",
        ),
        (
            "budgets: {company: {}}\naccount: compny\n",
            ":2:1: 'account': there is no account 'compny' under budgets. Did",
        ),
        ("account: a//b\n", ":1:1: 'account': 'a//b' is not the name of an account"),
        (
            "budgets: {a: {}}\nkeys:\n  k: {secret: env:K, account: b}\n",
            ":3:22: 'keys.k.account': there is no account 'b' under budgets. Known: a.",
        ),
        ("ledger: mysql://h/db\n", ":1:1: 'ledger': that is no ledger that this version knows"),
        ("ledger: postgresql://h\n", ":1:1: 'ledger': that is no ledger that this version knows"),
        ("models: {a: {model: simulated, bound: 0.9}}\n", ":1:32: 'models.a.bound'"),
        ("record: everything\n", ":1:1: 'record': Input should be 'full', 'digest' or 'none' (it says 'everything')."),
        ("a: 1\n  b: 2\n", ":2:4: this is not YAML: mapping values are not allowed here."),
        ("models: [\n", ":2:1: this is not YAML"),
        ("a:\n\t- b\n", ":2:1: this is not YAML"),
        ("--- a\n--- b\n", ":2:1: this is not YAML"),
        ("x: !!python/object:os.system {}\n", ":1:4: this is not YAML"),
        ("- a\n", ":1:1: the settings are a mapping (models:, database: …), not list."),
        ("just words\n", ":1:1: the settings are a mapping (models:, database: …), not str."),
        (
            "models:\n  a: {model: simulated}\n  b: {model: simulated}\n  a: {model: simulated}\n",
            ":4:3: 'a' stands here a second time. Remove one.",
        ),
        ("record: full\nrecord: none\n", ":2:1: 'record' stands here a second time. Remove one."),
        ("7: x\n", ": "),
        ("record: &r [*r]\n", ": the settings refer to themselves"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_column(said, text, expected):
    assert said(text).startswith(expected)


@pytest.mark.parametrize("address", ["me:hunter2@h/db", "me@h/db?password=hunter2", "me@h/db?sslpassword=hunter2"])
def test_an_address_of_a_ledger_holds_no_password(said, address):
    message = said(f"ledger: postgresql://{address}\n")
    assert message.startswith(":1:1: 'ledger': an address has no password in it: Postgres takes it from PGPASSWORD")
    assert "hunter2" not in message
    assert Settings(ledger="postgresql://postgres:@/db?host=/run/pg").ledger  # an empty one is none


def test_accounts_and_their_limits(tmp_path):
    file = tmp_path / "orchestrion.yaml"
    file.write_text(
        "account: company/support\n"
        "budgets:\n"
        "  company:\n"
        "  company/support: {limit: 0.1, minutes: 1.5, period: day, limits: [{tokens: 9, period: run}, {limit: 2}], class: critical}\n"
        "  company/tax: {limit: 1, period: month, limits: [{limit: 1.0, period: month}]}\n"
        "models: {a: {model: simulated, bound: 1.5}}\n"
    )
    settings = read_settings(file)
    budgets = settings.budgets
    assert settings.account == "company/support"
    assert (budgets["company"].caps(), budgets["company"].rank) == ({}, None)
    assert budgets["company/support"].caps() == {
        ("money", "day"): 100_000_000,
        ("attention", "day"): 90,
        ("tokens", "run"): 9,
        ("money", "forever"): 2_000_000_000,
    }
    assert budgets["company/support"].rank == "critical"
    assert budgets["company/tax"].caps() == {("money", "month"): 1_000_000_000}  # said twice, and the same
    assert settings.models["a"].bound == 1.5
    assert settings.without_effect == []


def test_a_required_key_misspelt_shows_the_right_one(said):
    message = said("models:\n  a:\n    modle: simulated\n")
    assert "'models.a.model' is missing" in message
    assert ":3:5: there is no setting 'models.a.modle'. Did you mean 'model'?" in message


def test_several_mistakes_are_said_at_once(said):
    assert len(said("databse: x\nrecrod: y\nmodels: {a: {}}\n").splitlines()) == 3


def test_a_character_that_yaml_forbids(said):
    assert "this is not YAML" in said("database: 'a\x00b'\n")


def test_a_file_that_is_no_text(said):
    assert "cannot be read" in said("", raw=b"\xff\xfe\x00x")


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(SettingsError, match=r"there is no settings file .*orchestrion init"):
        read_settings(tmp_path / "no.yaml")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings(tmp_path)


def test_which_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCHESTRION_CONFIG", raising=False)
    assert read_settings() == Settings()
    for name, record in [("orchestrion.yaml", "digest"), ("other.yaml", "none"), ("third.yaml", "full")]:
        (tmp_path / name).write_text(f"record: {record}\n")
    assert read_settings().record == "digest"
    monkeypatch.setenv("ORCHESTRION_CONFIG", "other.yaml")
    assert read_settings().record == "none"
    assert read_settings("third.yaml").record == "full"
    monkeypatch.setenv("ORCHESTRION_CONFIG", "gone.yaml")
    with pytest.raises(SettingsError, match=r"gone\.yaml"):
        read_settings()


def models(**settings):
    return Settings.model_validate({"database": ":memory:", "models": settings})


def test_a_secret_is_looked_up_when_it_is_needed(monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    price = {"input": 1, "output": 1}
    keyed = {"model": "openai-chat:x", "api_key": "env:SOME_KEY", "price": price}
    app = Orchestrion.open(
        models(m=keyed, s={"model": "simulated", "price": price})
    )  # a model without its key hinders nobody else
    app.workers.check_keys(["s"])
    with pytest.raises(
        SettingsError, match=r"model 'm' takes its key from the environment variable SOME_KEY, which is not set"
    ):
        app.workers.check_keys(["m"])
    monkeypatch.setenv("SOME_KEY", "  ")
    with pytest.raises(SettingsError, match="SOME_KEY"):
        app.workers.check_keys(["m"])
    monkeypatch.setenv("SOME_KEY", " sk-1\n")
    app.workers.check_keys(["m"])
    assert secret("env:SOME_KEY", owner="x") == "sk-1"
    assert secret("plain", owner="x") == "plain"


@pytest.mark.parametrize("key", ["sk-1\nsk-2", "sk—1", "sk\0"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(monkeypatch, key):
    monkeypatch.setattr(os, "environ", {"SOME_KEY": key})
    with pytest.raises(SettingsError, match="SOME_KEY, which holds a line break or a sign that no key has") as caught:
        secret("env:SOME_KEY", owner="x")
    assert "sk" not in str(caught.value)


def test_a_model_without_a_price_is_refused_where_it_is_used():
    priced = {"model": "simulated", "price": {"input": 1, "output": 1}}
    app = Orchestrion.open(models(m={"model": "openai-chat:house-made"}, s=priced))
    assert list(app.workers) == ["m", "s"]
    assert "m" in app.workers
    assert app.workers["s"].price
    with pytest.raises(SettingsError, match=r"model 'm' \(openai-chat:house-made\) has no known price.*price: \{input"):
        app.workers["m"]
    with pytest.raises(KeyError):
        app.workers["nobody"]


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(providers, "find_spec", lambda name: None)
    app = Orchestrion.open(models(m={"model": "anthropic:claude-haiku-4-5"}))
    with pytest.raises(
        SettingsError, match=r"model 'm' needs the library of anthropic: pip install 'orchestrion\[anthropic\]'"
    ):
        app.workers["m"]


@pytest.mark.parametrize(
    "model",
    [
        "openai-chat:gpt-4o-mini",
        "anthropic:claude-haiku-4-5",
        "google:gemini-2.5-flash",
        "mistral:mistral-large-latest",
        "bedrock:eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ],
)
def test_a_listed_price_needs_no_setting_and_no_key(model):
    app = Orchestrion.open(models(m={"model": model}))
    price = app.workers["m"].price
    assert price
    assert price.output > price.input > 0


def test_a_price_that_rises_with_the_prompt():
    app = Orchestrion.open(models(m={"model": "google:gemini-2.5-pro"}))
    price = app.workers["m"].price
    assert price
    [(longer, dearer)] = price.tiers
    assert dearer.input == 2 * price.input
    assert price.cost(Usage(longer, 10)) * 1_000_000 == longer * price.input + 10 * price.output
    assert price.cost(Usage(longer + 1, 0)) == -(-(longer + 1) * dearer.input // 1_000_000)
    assert price.bound(100, 100) == dearer.bound(100, 100)  # whatever comes, the hold is enough


def test_where_keys_come_from():
    given = models(
        a={"model": "anthropic:x"},
        b={"model": "anthropic:x", "base_url": "http://localhost:1"},
        c={"model": "google:x", "api_key": "env:MINE"},
        d={"model": "bedrock:x"},
        e={"model": "openai-chat:x"},
        f={"model": "simulated"},
    ).models
    assert [given[name].key for name in "abcdef"] == [
        "env:ANTHROPIC_API_KEY",
        None,
        "env:MINE",
        None,
        "env:OPENAI_API_KEY",
        None,
    ]


@pytest.mark.parametrize("kind", PROVIDERS)
def test_every_kind_is_one_that_pydantic_ai_knows(kind):
    with contextlib.suppress(ImportError):  # of the kind's own library, which says that the kind is known
        infer_provider_class(kind)
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert PROVIDERS[kind].extra in extras


def test_a_base_url_without_a_scheme_is_refused(said):
    text = "models:\n  a: {model: 'openai-chat:x', base_url: 'localhost:8000/v1'}\n"
    assert said(text).startswith(":2:31: 'models.a.base_url'")
