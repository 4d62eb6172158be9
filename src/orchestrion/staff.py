"""Who can be asked: the workers that the settings name, built when they are first needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from orchestrion.domain import Price, nanos
from orchestrion.errors import SettingsError
from orchestrion.evidence.records import read_answers
from orchestrion.ledger.prices import Listed, listed
from orchestrion.settings import ModelSettings, PersonSettings, Settings, secret
from orchestrion.telemetry import Tracing
from orchestrion.workers.limited import LimitedWorker
from orchestrion.workers.people import Person
from orchestrion.workers.protocol import Worker
from orchestrion.workers.simulated import SimulatedWorker
from orchestrion.workers.traced import TracedWorker
from orchestrion.workers.wider import WiderWorker

if TYPE_CHECKING:
    from orchestrion.workers.openai_wire import Session
    from orchestrion.workers.providers import ProviderWorker


class Staff(Mapping[str, Worker]):
    """Workers by name: models and people of the settings, and those that a program brings along.

    A model is built when it is first asked for: one that cannot be (no known price, no library) hinders only those who use
    it, with a SettingsError. ``proceed`` raises where no new call may start.
    """

    def __init__(
        self, settings: Settings, workers: Iterable[Worker], *, tracing: Tracing, proceed: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._tracing = tracing
        self._proceed = proceed
        self._session: Session | None = None
        self._providers: dict[str, ProviderWorker] = {}
        self._closing = contextlib.AsyncExitStack()
        self._there: dict[str, Worker] = {name: _person(name, person) for name, person in settings.people.items()}
        self._there |= {worker.name: self._traced(worker) for worker in workers}
        self._names = dict.fromkeys([*settings.models, *self._there])

    def __getitem__(self, name: str) -> Worker:
        worker = self._there.get(name)
        if worker is None:
            if name not in self._names:
                raise KeyError(name)
            worker = self._there[name] = self._traced(self._built(name, self._settings.models[name]))
        return worker

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def check_keys(self, names: Iterable[str]) -> None:
        """Look up the keys of these models, and make their clients, now rather than at their first call.

        Raises SettingsError.
        """
        for name in names:
            model = self._settings.models.get(name)
            if model and model.key:
                secret(model.key, owner=f"model '{name}'")
            if self.get(name) and name in self._providers:  # which has a model only once it is built
                self._providers[name].open()

    def listed(self, name: str) -> Listed | None:
        """What the table of list prices says of a model of the settings; None where it knows nothing."""
        model = self._settings.models[name]
        if model.model == "simulated":
            return None
        provider = "openai" if model.kind == "openai-chat" else model.kind
        return listed(model.id, provider=provider, base_url=model.base_url)

    def prices(self) -> dict[str, Price]:
        """Prices per token of those who have one that is known."""
        found = {}
        for name in self:
            with contextlib.suppress(SettingsError):  # whoever cannot be asked has not been
                if price := self[name].price:
                    found[name] = price
        return found

    async def close(self) -> None:
        """Close what connections and clients there are."""
        await self._closing.aclose()

    def _traced(self, worker: Worker) -> Worker:
        return TracedWorker(worker, self._tracing) if self._tracing.on and not isinstance(worker, Person) else worker

    def _built(self, name: str, model: ModelSettings) -> Worker:
        worker = self._plain(name, model)
        return WiderWorker(worker, model.bound) if model.bound != 1 else worker

    def _plain(self, name: str, model: ModelSettings) -> Worker:
        price = self._price(name, model)
        if model.model == "simulated":
            answers = read_answers(self._settings.path(model.answers)) if model.answers else None
            return SimulatedWorker(
                name,
                price=price,
                skill=model.skill,
                latency_s=model.latency_s,
                seed=model.seed,
                max_output=model.max_output,
                answers=answers,
            )
        key = partial(secret, model.key, owner=f"model '{name}'") if model.key else lambda: None
        wire = self._openai if model.kind == "openai-chat" else self._provider
        return LimitedWorker(
            wire(name, model, price, key),
            concurrency=model.concurrency,
            requests_per_minute=model.requests_per_minute,
            proceed=self._proceed,
        )

    def _openai(self, name: str, model: ModelSettings, price: Price, key: Callable[[], str | None]) -> Worker:
        from orchestrion.workers.openai_wire import OpenAIWire, Session  # aiohttp: 0.3 s, only for real models

        if self._session is None:
            self._session = Session()
            self._closing.push_async_callback(self._session.close)
        return OpenAIWire(
            name,
            model.id,
            session=self._session,
            price=price,
            base_url=model.base_url,
            key=key,
            max_output=model.max_output,
            timeout_s=model.timeout_s,
            extra=model.request,
        )

    def _provider(self, name: str, model: ModelSettings, price: Price, key: Callable[[], str | None]) -> Worker:
        from orchestrion.workers.providers import ProviderWorker  # only for models that need it

        provider = self._providers[name] = ProviderWorker(
            name,
            model.kind,
            model.id,
            price=price,
            base_url=model.base_url,
            key=key,
            max_output=model.max_output,
            timeout_s=model.timeout_s,
            fields=model.request,
        )
        self._closing.push_async_callback(provider.close)
        return provider

    def _price(self, name: str, model: ModelSettings) -> Price:
        if model.price:
            return model.price.price()
        found = self.listed(name)
        if found is None:
            at = " at this base_url" if model.base_url else ""  # where a name may mean another model, at another price
            raise SettingsError(
                f"{self._settings.file or 'settings'}: model '{name}' ({model.model}) has no known price{at}, and without one its calls cannot be bounded. "
                f"Give it one, in dollars per million tokens: `price: {{input: 0.10, output: 0.40}}` (0 for a local model)."
            )
        return found.price


def _person(name: str, person: PersonSettings) -> Person:
    """The worker that a person in the settings is."""
    return Person(
        name,
        wage=nanos(person.wage),
        minutes=person.minutes,
        members=person.members,
        deadline_s=None if person.deadline_hours is None else person.deadline_hours * 3600,
        otherwise=person.on_deadline,
    )
