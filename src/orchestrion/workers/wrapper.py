"""What features that wrap a worker have in common: its name, its price, its bound and its model are the inner one's."""

from __future__ import annotations

from orchestrion.domain import Money, Price, Request
from orchestrion.workers.protocol import Worker, margin_of, model_of, tokens_bound


class Wrapper:
    """A worker around another; a subclass adds what it does in ``reply``."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @property
    def name(self) -> str:
        return self._worker.name

    @property
    def price(self) -> Price | None:
        return self._worker.price

    @property
    def margin(self) -> float:
        return margin_of(self._worker)

    @property
    def model(self) -> str | None:
        return model_of(self._worker)

    def bound(self, request: Request) -> Money:
        return self._worker.bound(request)

    def tokens(self, request: Request) -> int:
        return tokens_bound(self._worker, request)
