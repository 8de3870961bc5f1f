"""Effects under way: begun by the executor's loop, done by workers, their results taken in by the loop.

The loop never waits for a host, so a slow one keeps neither a rollback elsewhere nor a person's order waiting. Ways
back have workers of their own: however much goes forward, they are never short of one. Nor does an instance that is
slow on its way forward keep the others of its deployment from going back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

from executor.rollout.decide import Failure
from executor.rollout.effects import Drifted, Outcome
from executor.trees.tree import shown
from keys.errors import CalyxError

WORKERS: Final = 32
"""Instances that are worked on at once, whatever the fleet allows to be down."""

_NOTHING: Final = Outcome()

Pools = Callable[[int], Executor]
"""Makes a pool with that many workers."""


@dataclass(frozen=True, slots=True)
class Result:
    """How the effect on one instance ended; `outcome` is of one that did not fail."""

    name: str
    back: bool
    failure: Failure | None
    outcome: Outcome = _NOTHING


@dataclass(frozen=True, slots=True)
class _Effect:
    back: bool
    future: Future[Outcome]


@dataclass(frozen=True, slots=True)
class _Job:
    """`ended`: names whose effects have come to an end, told by whichever thread saw it; a few may be gone already."""

    running: dict[str, _Effect] = field(default_factory=dict)
    ended: deque[str] = field(default_factory=deque)


class Work:
    """The effects of each deployment, by its lease's digest. For the loop's thread alone."""

    def __init__(self, pools: Pools = ThreadPoolExecutor) -> None:
        self._forward: Final = pools(WORKERS)
        self._backward: Final = pools(WORKERS)
        self._jobs: Final[dict[str, _Job]] = {}

    def busy(self, digest: str) -> bool:
        """Whether effects of a deployment are under way, or have results that were not taken."""
        return digest in self._jobs

    def under_way(self, digest: str) -> dict[str, bool]:
        """The instances that effects of a deployment are under way on, and whether they lead back."""
        job = self._jobs.get(digest)
        return {} if job is None else {name: effect.back for name, effect in job.running.items()}

    def going_back(self, digest: str) -> bool:
        """Whether an effect of a deployment is under way that leads back."""
        job = self._jobs.get(digest)
        return job is not None and any(effect.back for effect in job.running.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._jobs

    def begin(self, digest: str, effects: Mapping[str, Callable[[], Outcome]], *, back: bool) -> None:
        """Begin effects, by instance name. An instance has one at a time."""
        job = self._jobs.setdefault(digest, _Job())
        if not job.running.keys().isdisjoint(effects):
            raise ValueError("an effect on this instance is under way")
        pool = self._backward if back else self._forward
        for name, effect in effects.items():
            future = pool.submit(effect)
            job.running[name] = _Effect(back, future)
            # Asking each that is under way would take longer the more there are.
            future.add_done_callback(lambda _, name=name: job.ended.append(name))  # type: ignore[misc]

    def turn_back(self, digest: str) -> None:
        """Let no effect that leads forward begin any more; those that began come to their end."""
        job = self._jobs.get(digest)
        if job is None:
            return
        for name in [name for name, effect in job.running.items() if not effect.back and effect.future.cancel()]:
            del job.running[name]
        if not job.running:
            del self._jobs[digest]

    def take(self, digest: str) -> list[Result]:
        """Results that came in since the last time; each is given once."""
        job = self._jobs.get(digest)
        if job is None:
            return []
        results = []
        while job.ended:
            name = job.ended.popleft()
            effect = job.running.get(name)
            # One that was cancelled is gone, and another effect on the same instance may be under way.
            if effect is not None and effect.future.done():
                results.append(_result(name, job.running.pop(name)))
        if not job.running:
            del self._jobs[digest]
        return results

    def come_to_rest(self, timeout_s: float) -> bool:
        """Begin nothing more, and wait up to `timeout_s` seconds for what is under way; whether it has ended. So an
        instance is left between two effects, never in one.
        """
        running = [effect.future for job in self._jobs.values() for effect in job.running.values()]
        return not wait([future for future in running if not future.cancel()], timeout_s).not_done

    def take_rest(self) -> dict[str, list[Result]]:
        """Results that were not taken, by digest, once everything has come to rest. What never began has none."""
        rest = {
            digest: [_result(name, effect) for name, effect in job.running.items() if not effect.future.cancelled()]
            for digest, job in self._jobs.items()
        }
        self._jobs.clear()
        return rest

    def close(self) -> None:
        """Wait for what is under way. Its results are not lost: the hosts have them, and the next run looks there."""
        self._forward.shutdown(wait=True, cancel_futures=True)
        self._backward.shutdown(wait=True, cancel_futures=True)


def _result(name: str, effect: _Effect) -> Result:
    back = effect.back
    try:
        return Result(name, back, None, effect.future.result())
    except Drifted as error:
        return Result(name, back, Failure(error.code, error.message, drift=True))
    except CalyxError as error:
        return Result(name, back, Failure(error.code, error.message))
    except Exception as error:  # noqa: BLE001  # a defect that one instance finds must not stop a rollback
        return Result(name, back, Failure("internal_error", shown(f"{type(error).__name__}: {error}")))
