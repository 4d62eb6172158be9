"""orchestrion.yaml and the environment → one frozen Settings. Nothing else reads the environment, save what cli/ asks of its
terminal (NO_COLOR, TERM, LANG).

A secret is written as "env:NAME" and looked up when it is needed, so that a model without its key hinders only those
who use that model. Errors name the file, the line and the column.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from orchestrion.domain import Price, nanos
from orchestrion.errors import SettingsError
from orchestrion.limits import NAME, LimitSettings, check_tree
from orchestrion.limits import BudgetSettings as BudgetSettings
from orchestrion.sections import Dollars, Section, misplaced
from orchestrion.sections import nearest as nearest  # settings' users find their nearest word here, too

if TYPE_CHECKING:
    import yaml

FILE_NAME = "orchestrion.yaml"


class PriceSettings(Section):
    """Dollars per million tokens."""

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None

    def price(self) -> Price:
        read, write = self.cache_read, self.cache_write
        return Price(
            input=nanos(self.input),
            output=nanos(self.output),
            cache_read=None if read is None else nanos(read),
            cache_write=None if write is None else nanos(write),
        )


OPENAI = "https://api.openai.com/v1"


class Provider(NamedTuple):
    """A provider whose models are called through pydantic-ai: our extra that brings its library, the module by which
    the library is known to be there, the environment variable of its key (None: the library finds its own way in), and
    its address (None: it depends on the region, or only the library knows).
    """

    extra: str
    module: str
    key: str | None
    address: str | None = None


_LIBRARIES = {
    "anthropic": Provider("anthropic", "anthropic", "ANTHROPIC_API_KEY", "https://api.anthropic.com"),
    "bedrock": Provider("bedrock", "boto3", None),
    "cohere": Provider("cohere", "cohere", "CO_API_KEY", "https://api.cohere.com"),
    "google": Provider("google", "google.genai", "GOOGLE_API_KEY", "https://generativelanguage.googleapis.com"),
    "google-cloud": Provider("google", "google.genai", None),
    "groq": Provider("groq", "groq", "GROQ_API_KEY", "https://api.groq.com"),
    "huggingface": Provider("huggingface", "huggingface_hub", "HF_TOKEN", "https://router.huggingface.co"),
    "mistral": Provider("mistral", "mistralai", "MISTRAL_API_KEY", "https://api.mistral.ai"),
    "xai": Provider("xai", "xai_sdk", "XAI_API_KEY", "https://api.x.ai"),
}
_WITH_OPENAIS_LIBRARY = {
    "alibaba": "ALIBABA_API_KEY",
    "azure": "AZURE_OPENAI_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "fireworks": "FIREWORKS_API_KEY",
    "github": "GITHUB_API_KEY",
    "heroku": "HEROKU_INFERENCE_KEY",
    "meta": "META_API_KEY",
    "moonshotai": "MOONSHOTAI_API_KEY",
    "nebius": "NEBIUS_API_KEY",
    "openai-responses": "OPENAI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "ovhcloud": "OVHCLOUD_API_KEY",
    "sambanova": "SAMBANOVA_API_KEY",
    "together": "TOGETHER_API_KEY",
    "vercel": "VERCEL_AI_GATEWAY_API_KEY",
    "zai": "ZAI_API_KEY",
}
PROVIDERS: Mapping[str, Provider] = dict(
    sorted(
        (_LIBRARIES | {kind: Provider("openai", "openai", key) for kind, key in _WITH_OPENAIS_LIBRARY.items()}).items()
    )
)
MODEL_KINDS = ("openai-chat", *PROVIDERS)

RESERVED = frozenset({"model", "messages", "stream", "n", "best_of", "max_tokens", "max_completion_tokens"})
RESERVED_LIMITS = frozenset({"max_output_tokens", "max_new_tokens", "n_predict", "num_predict"})
"""The output limit as some servers call it, too."""

PRICED_APART = frozenset({"models", "web_search_options", "plugins", "modalities", "audio", "prediction"})
"""Other models, searches, sound, guesses that are billed where they are wrong: no price in the settings speaks of them."""

TIERS = ("auto", "default", "flex")
PROVIDER_FIELDS = frozenset(
    {"temperature", "top_p", "top_k", "seed", "stop_sequences", "presence_penalty", "frequency_penalty", "logit_bias"}
    | {"cache", "thinking", "anthropic_thinking", "anthropic_effort", "google_thinking_config", "groq_reasoning_format"}
    | {"openai_reasoning_effort", "google_safety_settings", "bedrock_guardrail_config"}
)
"""What a ``request`` to a provider may hold: fields that change neither the price of a token nor how many there may be."""


def refuse_fields(kind: str, fields: Mapping[str, Any]) -> None:
    """Raise ValueError for fields with which a call could cost more than was held for it, or that nobody would heed."""
    for field in fields:
        if field in RESERVED | RESERVED_LIMITS:
            raise ValueError(
                f"{field!r} is set by Orchestrion: with another, a call could cost more than was held "
                "(max_output limits an answer)"
            )
        if field in PRICED_APART or (field == "service_tier" and fields[field] not in TIERS):
            raise ValueError(
                f"{field!r} has a price of its own, which is not counted: a call could cost more than was held"
            )
        if kind in PROVIDERS and field not in PROVIDER_FIELDS:
            raise ValueError(f"{field!r} cannot be sent to {kind} models.{nearest(field, PROVIDER_FIELDS)[:-1]}")
    if kind in PROVIDERS and fields.get("cache", False) not in (True, False, "5m"):
        raise ValueError(
            "'cache' is true, false or '5m' here: longer ones have a price of their own, which is not counted"
        )


class ModelSettings(Section):
    """One model: "openai-chat:NAME" speaks OpenAI's chat completions to ``base_url``; "simulated" makes answers up; the
    other kinds are those of PROVIDERS."""

    model: str
    base_url: str | None = None
    api_key: str | None = None
    price: PriceSettings | None = None
    max_output: Annotated[int, Field(gt=0)] = 4096
    concurrency: Annotated[int, Field(gt=0)] = 64
    requests_per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    bound: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    request: Mapping[str, Any] = {}
    skill: Annotated[float, Field(ge=0, le=1)] = 1.0
    latency_s: Annotated[float, Field(ge=0)] = 0.0
    seed: int = 0
    answers: str | None = None

    @field_validator("request")
    @classmethod
    def _nothing_reserved(cls, value: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        refuse_fields(info.data.get("model", "").partition(":")[0], value)  # without a model, that is what is said
        return value

    @field_validator("api_key")
    @classmethod
    def _named_key(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("env:"):
            raise ValueError("a key is named, not written: env:NAME takes it from the environment variable NAME")
        return value

    @property
    def kind(self) -> str:
        """What stands before the colon: "anthropic" of "anthropic:claude-haiku-4-5"."""
        return self.model.partition(":")[0]

    @property
    def id(self) -> str:
        """What stands behind the colon: the provider's name for the model."""
        return self.model.partition(":")[2]

    @property
    def address(self) -> str | None:
        """Where its server is; None for simulated models, and where only the provider's library knows."""
        if self.base_url is not None:
            return self.base_url
        if self.kind in PROVIDERS:
            return PROVIDERS[self.kind].address
        return OPENAI if self.kind == "openai-chat" else None

    @property
    def key(self) -> str | None:
        """Where the key comes from: a provider's own address needs its key, another (``base_url``) may not."""
        if self.api_key or self.base_url is not None:
            return self.api_key
        variables = {"openai-chat": "OPENAI_API_KEY"} | {kind: provider.key for kind, provider in PROVIDERS.items()}
        variable = variables.get(self.kind)
        return f"env:{variable}" if variable else None

    @field_validator("model")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        kind, _, name = value.partition(":")
        if value != "simulated" and (kind not in MODEL_KINDS or not name):
            known = ", ".join(MODEL_KINDS)
            raise ValueError(f"{value!r} is not a model: write KIND:NAME or 'simulated'. Kinds: {known}")
        return value

    @field_validator("base_url")
    @classmethod
    def _whole_url(cls, value: str | None) -> str | None:
        if value is None:
            return value
        try:
            parts = urlsplit(value)
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port or an IPv6 address that cannot be
            whole = False
        if not whole or re.search(r"\s", value):
            raise ValueError(f"{value!r} is not a URL: write it whole, such as http://localhost:8000/v1")
        if parts.username or parts.password:  # addresses are shown, and stand in errors
            raise ValueError("an address has no name or password in it: `api_key: env:NAME` names a key")
        if parts.query or parts.fragment or parts.path.rstrip("/").endswith("/chat/completions"):
            raise ValueError(f"{value!r} goes on too far: what is called is put behind it. End it where /v1 ends")
        return value


REDACTIONS = ("card", "email", "iban", "phone", "ssn")
"""Patterns that have a name (evidence.redaction)."""


class PersonSettings(Section):
    """People who answer: wage in dollars an hour, minutes that a question takes them, hours until ``on_deadline`` is decided."""

    wage: Dollars
    members: tuple[str, ...] = ()
    minutes: Annotated[float, Field(gt=0, le=10_080, allow_inf_nan=False)] = 5.0
    deadline_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    on_deadline: Literal["approve", "reject"] = "reject"


class KeySettings(Section):
    """A key of the gateway."""

    secret: str
    account: str


class Settings(Section):
    """Everything that orchestrion.yaml says."""

    database: str = "sqlite:///orchestrion.db"
    record: Literal["full", "digest", "none"] = "full"
    keep_days: Annotated[int, Field(gt=0)] | None = None
    redact: tuple[str, ...] = ()
    models: Mapping[str, ModelSettings] = {}
    policies: Mapping[str, str] = {}
    certificates: Literal["warn", "refuse"] = "warn"
    budgets: Mapping[str, BudgetSettings] = {}
    account: str | None = None
    ledger: str | None = None
    people: Mapping[str, PersonSettings] = {}
    keys: Mapping[str, KeySettings] = {}
    file: Path | None = None

    @field_validator("database")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value != ":memory:" and not value.startswith("sqlite:///"):
            raise ValueError(f"{value!r} is not a database that this version knows: write sqlite:///PATH")
        return value

    @field_validator("budgets", mode="before")
    @classmethod
    def _bare_accounts(cls, budgets: Any) -> Any:
        """`company:` with nothing behind it is an account without limits, and `budgets:` names none."""
        if budgets is None:
            return {}
        if isinstance(budgets, dict) and any(isinstance(value, int | float) for value in budgets.values()):
            name = next(name for name, value in budgets.items() if isinstance(value, int | float))
            raise misplaced(
                f"a limit stands in braces: `{name}: {{limit: {budgets[name]}, period: month}}`.", str(name)
            )
        return {k: {} if v is None else v for k, v in budgets.items()} if isinstance(budgets, dict) else budgets

    @field_validator("budgets")
    @classmethod
    def _whole_tree(cls, budgets: Mapping[str, BudgetSettings]) -> Mapping[str, BudgetSettings]:
        check_tree(budgets)
        return budgets

    @field_validator("account")
    @classmethod
    def _known_account(cls, account: str | None, info: ValidationInfo) -> str | None:
        if account is not None:
            _refuse_unknown(account, info)
        return account

    @field_validator("keys")
    @classmethod
    def _known_accounts(cls, keys: Mapping[str, KeySettings], info: ValidationInfo) -> Mapping[str, KeySettings]:
        for name, key in keys.items():
            _refuse_unknown(key.account, info, name, "account")
        return keys

    @field_validator("ledger")
    @classmethod
    def _known_ledger(cls, value: str | None) -> str | None:
        if value is None or value.startswith("env:"):
            return value
        try:
            parts = urlsplit(value)
            known = parts.scheme in ("postgresql", "postgres") and parts.path.strip("/") and parts.port != 0
        except ValueError:  # a port or an IPv6 address that cannot be
            known = False
        if not known:
            raise ValueError("that is no ledger that this version knows: write postgresql://USER@HOST/DATABASE")
        if parts.password or re.search(r"(?i)password=", parts.query):  # addresses are shown, and stand in errors
            raise ValueError(
                "an address has no password in it: Postgres takes it from PGPASSWORD, or from ~/.pgpass; or write env:NAME, "
                "with the whole address in that variable"
            )
        return value

    @field_validator("people")
    @classmethod
    def _no_namesakes(cls, people: Mapping[str, PersonSettings], info: ValidationInfo) -> Mapping[str, PersonSettings]:
        both = sorted(set(people) & set(info.data.get("models", ())))
        if both:
            raise ValueError(f"'{both[0]}' is the name of a model, too: policies know workers by their names")
        return people

    @field_validator("redact")
    @classmethod
    def _known_redactions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if entry.startswith("python:"):
                if not re.fullmatch(r"python:(\w+\.)+\w+", entry):
                    raise ValueError(f"{entry!r} names no function: write python:MODULE.FUNCTION")
            elif re.fullmatch(r"\w+", entry):  # a misspelt name, taken for a pattern, would redact nothing in silence
                if entry not in REDACTIONS:
                    raise ValueError(f"{entry!r} is not a pattern that has a name.{nearest(entry, REDACTIONS)}")
            else:
                try:
                    pattern = re.compile(entry)
                except re.error as error:
                    raise ValueError(f"{entry!r} is not a regular expression: {error}") from None
                if pattern.search(""):
                    raise ValueError(f"{entry!r} matches the empty text: it would redact between all letters")
        return value

    @property
    def forgets(self) -> bool:
        """Whether anything of what is recorded is to be removed again."""
        return self.record != "full" or bool(self.redact) or self.keep_days is not None

    @property
    def without_effect(self) -> list[str]:
        """Sections that are read and checked, but that nothing heeds yet: whoever writes a limit must hear of it."""
        return ["keys"] if self.keys else []

    @property
    def simulated(self) -> bool:
        """Whether no dollar of these settings is real: every model is simulated."""
        return bool(self.models) and all(model.model == "simulated" for model in self.models.values())

    @property
    def folder(self) -> Path:
        """Where relative paths in the settings start."""
        return self.file.parent if self.file else Path.cwd()

    def path(self, name: str) -> Path:
        """A path written in the settings, from the folder of their file."""
        return self.folder / Path(name).expanduser()

    @property
    def database_path(self) -> Path | None:
        """The SQLite file; None for a database in memory."""
        return None if self.database == ":memory:" else self.path(self.database.removeprefix("sqlite:///"))


def _refuse_unknown(account: str, info: ValidationInfo, *at: str) -> None:
    """An account must be one of the budgets, where there are any."""
    budgets = info.data.get("budgets", {})
    if not NAME.fullmatch(account):
        raise misplaced(f"{account!r} is not the name of an account, such as company/support.", *at)
    if budgets and account not in budgets:
        raise misplaced(f"there is no account '{account}' under budgets.{nearest(account, budgets)}", *at)


def ledger_address(settings: Settings) -> str | None:
    """Where the ledger stands that machines share; None where it is in the database. Raises SettingsError."""
    return settings.ledger and secret(settings.ledger, owner="ledger", what="address")


def secret(value: str, *, owner: str, what: str = "key") -> str:
    """What "env:NAME" stands for. Raises SettingsError where the variable is not set."""
    if not value.startswith("env:"):
        return value
    name = value.removeprefix("env:")
    found = os.environ.get(name, "").strip()
    if not found:
        raise SettingsError(
            f"{owner} takes its {what} from the environment variable {name}, which is not set. Set it (export {name}=…) and try again."
        )
    if not (found.isascii() and found.isprintable()):
        raise SettingsError(
            f"{owner} takes its {what} from the environment variable {name}, which holds a line break or a sign that no {what} has. "
            "Set it anew and try again."
        )
    return found


def find_settings(path: str | Path | None = None) -> Path | None:
    """The settings file: the one named, else ORCHESTRION_CONFIG, else orchestrion.yaml here; None where there is none."""
    named = path or os.environ.get("ORCHESTRION_CONFIG")
    if named:
        return Path(named)
    here = Path(FILE_NAME)
    return here if here.exists() else None


def read_settings(path: str | Path | None = None) -> Settings:
    """The settings of a file. Raises SettingsError with line and column; without any file, the defaults."""
    file = find_settings(path)
    if file is None:
        return Settings()
    import yaml  # only where there is a file to read: 45 ms

    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(
            f"there is no settings file {file}. `orchestrion init DIR` writes one to start from."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
    try:
        loader = yaml.SafeLoader(text)  # refuses characters that YAML does not know
        node = loader.get_single_node()
        data = loader.construct_document(node) if node is not None else {}
        loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SettingsError(f"{file}{at}: this is not YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # an impossible date, brackets without end
        raise SettingsError(f"{file}: this is not YAML: {error}") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SettingsError(
            f"{file}:1:1: the settings are a mapping (models:, database: …), not {type(data).__name__}."
        )
    try:
        places = _places(node) if node is not None else {}
        _refuse_doubles(node, file)
    except RecursionError:
        raise SettingsError(
            f"{file}: the settings refer to themselves (an alias *name within its own &name)."
        ) from None
    if "file" in data:
        line, column = places["file",]
        raise SettingsError(f"{file}:{line}:{column}: there is no setting 'file'.{nearest('file', _known(()))}")
    try:
        return Settings(**{**data, "file": file.absolute()})
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(file, one, places) for one in error.errors()[:5])) from None
    except TypeError as error:  # a key that is not a string
        raise SettingsError(f"{file}: {error}") from None


Place = tuple[str, ...]


def _places(node: yaml.Node, at: Place = ()) -> dict[Place, tuple[int, int]]:
    """Line and column of every key and item."""
    import yaml

    found: dict[Place, tuple[int, int]] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            found[here] = (key.start_mark.line + 1, key.start_mark.column + 1)
            found |= _places(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            here = (*at, str(i))
            found[here] = (value.start_mark.line + 1, value.start_mark.column + 1)
            found |= _places(value, here)
    return found


def _refuse_doubles(node: yaml.Node | None, file: Path) -> None:
    """YAML keeps the last of two equal keys in silence; for money and models that is a trap."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                mark = key.start_mark
                raise SettingsError(
                    f"{file}:{mark.line + 1}:{mark.column + 1}: {key.value!r} stands here a second time. Remove one."
                )
            seen.add(str(key.value))
            _refuse_doubles(value, file)


def _explain(file: Path, error: Any, places: Mapping[Place, tuple[int, int]]) -> str:
    loc: Place = (*(str(part) for part in error["loc"] if part != "[key]"), *error.get("ctx", {}).get("at", ()))
    at = next((places[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in places), (1, 1))
    name = ".".join(loc)
    place = f"{file}:{at[0]}:{at[1]}"
    if error["type"] == "extra_forbidden":
        return f"{place}: there is no setting '{name}'.{nearest(loc[-1], _known(loc[:-1]))}"
    if error["type"] == "missing":
        return f"{place}: '{name}' is missing."
    if error["type"] == "misplaced":
        return f"{place}: '{name}': {error['msg']}"
    message = error["msg"].removeprefix("Value error, ")
    return (
        f"{place}: '{name}': {message} (it says {error['input']!r})."
        if error["type"] != "value_error"
        else f"{place}: '{name}': {message}."
    )


def _known(loc: Place) -> Iterable[str]:
    if not loc:
        return [name for name in Settings.model_fields if name != "file"]
    sections: dict[str, type[Section]] = {
        "models": ModelSettings,
        "budgets": BudgetSettings,
        "people": PersonSettings,
        "keys": KeySettings,
        "price": PriceSettings,
        "limits": LimitSettings,
    }
    section = next((sections[part] for part in (*loc[2:][::-1], loc[0]) if part in sections), None)
    return [field.alias or name for name, field in section.model_fields.items()] if section else []
