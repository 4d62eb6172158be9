"""Whether a saved policy's certificate still holds: the models, prices and prompt that it was measured with are those of now."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrion.domain import dollars
from orchestrion.errors import PolicyError, SettingsError
from orchestrion.policy.certificate import Certificate, Ground
from orchestrion.workers.protocol import Worker, model_of

if TYPE_CHECKING:
    from orchestrion.engine.execution import SavedPolicy
    from orchestrion.engine.step import Step

_log = logging.getLogger("orchestrion")


def ground_of(worker: Worker) -> Ground:
    """What a worker is now, for a certificate to name."""
    price = worker.price
    return Ground(
        model=model_of(worker),
        price=(price.input, price.output, price.cache_read, price.cache_write) if price else None,
    )


def void(saved: SavedPolicy, step: Step[Any], workers: Mapping[str, Worker]) -> tuple[str, ...]:
    """Why a policy's certificate is void for a step and these workers, a clause each; nothing where it holds, or there is none.

    What the certificate does not know is no reason (see ``unknown``), nor is a worker that is not there: where the policy
    asks it, that is an error of its own.
    """
    certificate = saved.certificate
    if certificate is None:
        return ()
    reasons: list[str] = []
    if certificate.policy != saved.digest:
        reasons.append("the policy was changed after it was certified")
    if certificate.prompt is not None and certificate.prompt != step.prompt_digest:
        reasons.append("the step's instructions or output type are others than those it was measured with")
    for name, then in certificate.workers.items():
        with contextlib.suppress(SettingsError):  # one that the policy does not ask, and that cannot be asked
            worker = step.workers.get(name) or workers.get(name)
            if worker is not None:
                reasons += _changes(name, then, ground_of(worker))
    return tuple(reasons)


def unknown(certificate: Certificate) -> tuple[str, ...]:
    """What could change without voiding a certificate, because it does not say how it was, a clause each."""
    silent = [f"which model '{name}' was" for name, ground in certificate.workers.items() if ground.model is None]
    silent += [f"the price of '{name}'" for name, ground in certificate.workers.items() if ground.price is None]
    return (*silent, "the step's instructions") if certificate.prompt is None else tuple(silent)


class Certificates:
    """The certificates of the policies that an app performs. Each is looked at when its policy first performs a step, before
    anything is asked: a void one is warned of, once, or refused."""

    def __init__(self, workers: Mapping[str, Worker], *, refuse: bool = False) -> None:
        self._workers = workers
        self._refuse = refuse
        self._last: dict[str, tuple[SavedPolicy, Step[Any]]] = {}
        """What was looked at last, by the step's name: thousands of runs perform the same."""
        self._said: set[str] = set()

    def check(self, saved: SavedPolicy, step: Step[Any]) -> None:
        """Raises PolicyError where a certificate is void, and void ones are refused."""
        last = self._last.get(step.name)
        if last and last[0] is saved and last[1] is step:
            return
        reasons = void(saved, step, self._workers)
        if reasons:
            said = f"the certificate of policy '{saved.name}' is void for step '{step.name}': {'; '.join(reasons)}."
            if self._refuse:
                raise PolicyError(
                    f"{said} Nothing was asked. Certify the policy on fresh records (orchestrion certify), tune again (orchestrion "
                    "tune), or go on without its promise: `certificates: warn` in the settings."
                )
            if said not in self._said:
                _log.warning("%s Its promise does not hold any more; certify it on fresh records, or tune again.", said)
            self._said.add(said)
        self._last[step.name] = saved, step


def _changes(name: str, then: Ground, now: Ground) -> list[str]:
    changes = []
    if then.model is not None and then.model != now.model:
        model = f"is now {now.model}" if now.model else "does not say which model it is now"
        changes.append(f"'{name}' {model}; it was measured as {then.model}")
    if then.price is not None and (now.price is None or _whole(then.price) != _whole(now.price)):
        price = f"now costs {_words(now.price)}" if now.price else "has no price per token now"
        changes.append(f"'{name}' {price}; it was measured at {_words(then.price)}")
    return changes


Rates = tuple[int, int, int | None, int | None]


def _whole(price: Rates) -> tuple[int, ...]:
    """A price with its cache prices, which are the input's where none is named."""
    return tuple(price[0] if rate is None else rate for rate in price)


def _words(price: Rates) -> str:
    names = ("input", "output", "cache read", "cache write")
    named = [f"{name} {dollars(rate)}" for name, rate in zip(names, price, strict=True) if rate is not None]
    return f"{', '.join(named)} a million tokens"
