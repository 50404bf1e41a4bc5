"""Whether the workers of a job run the same programs, by what their self-checks say. Pure."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

from sollol_tui.hosts.environment import Environment
from sollol_tui.model.text import clean

# Ranks must compute the same from the same numbers. A release of torch does, whatever accelerator
# it is built for; another one need not, nor another payload.
_MUST_AGREE: Final[Mapping[str, Callable[[Environment], str]]] = {
    "the payload": lambda environment: environment.payload_hash,
    "torch": lambda environment: _release(environment, "torch"),
    "transformers": lambda environment: _release(environment, "transformers"),
    "peft": lambda environment: _release(environment, "peft"),
}


def difference(environments: Mapping[str, Environment]) -> tuple[str, str] | None:
    """The second of two hosts that must not train together, and the sentence why; None when all
    may."""
    if (found := _disagreement(environments)) is None:
        return None
    one, other, said = found
    return other, f"{said}; sollol provision {one} {other} --recreate"


def misfit(host: str, comer: Environment, workers: Mapping[str, Environment]) -> str:
    """Why a host must not train together with those who run already, "" when it may. Ranks that run
    keep the programs with which they were launched, whatever was upgraded here meanwhile."""
    for name, environment in workers.items():
        if found := _disagreement({name: environment, host: comer}):
            return found[2]
    return ""


def _disagreement(environments: Mapping[str, Environment]) -> tuple[str, str, str] | None:
    """Two hosts that must not train together, and what is wrong with the second."""
    for what, value in _MUST_AGREE.items():
        if found := _first_difference(environments, value):
            (one, had), (other, has) = found
            said = f"has {what} {has}, but {one} has {had}, and the workers of a job must agree"
            return one, other, said
    return None


def harmless_difference(environments: Mapping[str, Environment]) -> str:
    """A sentence on workers with different Pythons, "" when there are none: ranks hand each other
    numbers and JSON, and the lock pins the same torch for every Python."""
    found = _first_difference(environments, _python)
    if found is None:
        return ""
    (one, had), (other, has) = found
    return (
        f"{one} trains with Python {had} and {other} with {has}: "
        "nothing that ranks exchange depends on it"
    )


def _first_difference(
    environments: Mapping[str, Environment], value: Callable[[Environment], str]
) -> tuple[tuple[str, str], tuple[str, str]] | None:
    known = [(host, said) for host, e in environments.items() if (said := value(e))]
    return next((pair for pair in pairwise(known) if pair[0][1] != pair[1][1]), None)


def _release(environment: Environment, package: str) -> str:
    """2.13.0 of "2.13.0+cu130"; "" where the self-check did not say."""
    said = environment.fingerprint.get(package)
    return clean(said, limit=40).partition("+")[0] if isinstance(said, str) else ""


def _python(environment: Environment) -> str:
    return ".".join(_release(environment, "python").split(".")[:2])
