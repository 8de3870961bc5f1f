"""An event loop whose work ends in time, whatever the system's resolver does."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

MAX_LOOK_UPS: Final = 64
"""Names that this process may be looking up at once, those included that nobody waits for any more."""
_turns: Final = threading.BoundedSemaphore(MAX_LOOK_UPS)

T = TypeVar("T")


class _Loop(asyncio.SelectorEventLoop):
    async def getaddrinfo(self, host: Any, port: Any, **more: int) -> Any:
        """Look up a name in a thread that neither this loop nor the process waits for. asyncio's own are joined, by the
        end of the loop and by that of the process, for as long as the resolver likes.
        """
        if not _turns.acquire(blocking=False):
            raise OSError("too many names are being looked up")
        found = self.create_future()

        def settle(answer: Any, error: OSError | None) -> None:
            if found.done():
                return
            if error is None:
                found.set_result(answer)
            else:
                found.set_exception(error)

        def look_up() -> None:
            answer, refusal = None, None
            try:
                answer = socket.getaddrinfo(host, port, **more)
            except OSError as error:
                refusal = error
            except UnicodeError as error:
                refusal = OSError(str(error))
            finally:
                _turns.release()
            # The loop may be gone.
            with suppress(RuntimeError):
                self.call_soon_threadsafe(settle, answer, refusal)

        threading.Thread(target=look_up, name="look-up", daemon=True).start()
        return await found


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`; a time limit in the work is one of the call, too."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
