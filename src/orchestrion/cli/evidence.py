"""What `tune` and `certify` read: outcome files, or the project's own recorded outcomes; and options of both."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from orchestrion.cli.complete import batches
from orchestrion.cli.load import money, open_existing
from orchestrion.domain import Money, Outcome, Price, dollars
from orchestrion.errors import UsageError
from orchestrion.evidence.labelling import Item, items_in, items_of, labels_in
from orchestrion.evidence.labels import Labels
from orchestrion.evidence.records import read_outcomes
from orchestrion.settings import Settings, find_settings, read_settings

C = TypeVar("C", bound=Callable[..., Any])


class Evidence(NamedTuple):
    """Recorded outcomes, the answers among them that can be shown to a person, what people have said of those, and
    who the workers are. What is called can be called again. ``back`` stands before --in where labels come back."""

    outcomes: Callable[[], Iterable[Outcome]]
    items: Callable[[], Iterable[Item]]
    labels: Callable[[], Labels]
    settings: Settings
    prices: Mapping[str, Price]
    back: str

    @property
    def models(self) -> dict[str, str]:
        """Which models answer under the workers' names, by the settings; simulated ones are none."""
        return {name: model.model for name, model in self.settings.models.items() if model.model != "simulated"}

    def shown(self, workers: Collection[str]) -> Callable[[Money], str]:
        """How dollars are shown: those of simulated workers say so."""
        return money(self.settings) if self.simulated(workers) else dollars

    def simulated(self, workers: Collection[str]) -> bool:
        """Whether these workers, and so their dollars, are simulated."""
        return self.settings.simulated and set(workers) <= set(self.settings.models)


@asynccontextmanager
async def evidence(records: tuple[Path, ...], batch: str | None, config: str | None) -> AsyncIterator[Evidence]:
    """What there is to judge by. Raises UsageError, SettingsError and StoreError; RecordsError when it is read."""
    if not records:
        async with open_existing(config) as o:
            yield Evidence(
                outcomes=lambda: o.outcomes(batch=batch),
                items=lambda: items_of(o.database, o.content, batch=batch),
                labels=lambda: Labels.read(o.database),
                settings=o.settings,
                prices=o.workers.prices(),
                back="",
            )
        return
    if batch:
        raise UsageError("--batch is of the project's own outcomes; RECORDS are files. Give one or the other.")
    settings = read_settings(config) if config or find_settings() else Settings()
    yield Evidence(
        outcomes=lambda: read_outcomes(records),
        items=lambda: items_in(read_outcomes(records)),
        labels=lambda: labels_in(read_outcomes(records)),
        settings=settings,
        prices={name: model.price.price() for name, model in settings.models.items() if model.price},
        back=f"--records {records[0]} ",
    )


@contextmanager
def tuner() -> Iterator[None]:
    """Around the import of the tuner: its libraries are an extra. Raises UsageError where they are not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("numpy", "scipy", "sklearn"):
            raise
        raise UsageError(
            f"tuning and certifying need {missing}, which is not installed: pip install 'orchestrion[tune]'. "
            "(A policy that was tuned elsewhere is performed and replayed without.)"
        ) from None


def record_options(command: C) -> C:
    """RECORDS, and what chooses among them."""
    for option in (
        click.option(
            "--batch", metavar="NAME", shell_complete=batches, help="Without RECORDS: only the runs of one batch."
        ),
        click.option("--workload", metavar="NAME", help="Whose records are read, where there are several workloads."),
        click.option("--step", metavar="NAME", help="Whose records are read, where there are several steps."),
        click.option(
            "--group-by",
            metavar="TAG",
            help="Tasks with one value of this tag (a user, a document) belong together: they are one unit, not many.",
        ),
        click.argument("records", nargs=-1, metavar="[RECORDS]...", type=click.Path(dir_okay=False, path_type=Path)),
    ):
        command = option(command)
    return command


def share(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A share in (0, 1]. Raises UsageError, with the way out for percentages."""
    if value is None or 0 < value <= 1:
        return value
    hint = f" For {value:g} % write {value / 100:g}." if 1 < value <= 100 else ""
    raise UsageError(f"{param.opts[0]} {value:g}: this is a share, above 0 and at most 1.{hint}")


def below_one(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A share that some tasks cannot show to be whole. Raises UsageError."""
    if value == 1:
        raise UsageError(f"{param.opts[0]} 1: some tasks cannot show that it holds for all. Write 0.99, or less.")
    return share(ctx, param, value)


def refuse_places(**files: Path | None) -> None:
    """Where a file cannot be written, that is said before the work begins. Raises UsageError."""
    for name, file in files.items():
        option = f"--{name.replace('_', '-')}"
        if file and not file.absolute().parent.is_dir():
            raise UsageError(f"{option} {file}: there is no folder {file.parent}. Make it, or name another place.")
        if file and file.is_dir():
            raise UsageError(f"{option} {file}: this is a folder. Name a file in it.")


def columns() -> int:
    """Of the terminal; 0 where nobody looks at one: a pipe gets whole paragraphs."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
