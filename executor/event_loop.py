"""An event loop that ends when its work does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Loop(asyncio.SelectorEventLoop):
    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for no thread. What was given up may still be looking up a name, for as long as the resolver likes."""
        del timeout


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`; a time limit in the work is one of the call, too."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
