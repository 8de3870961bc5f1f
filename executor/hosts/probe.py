"""Ask a service whether it answers, by HTTP, by a command, or both."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from functools import cache
from typing import Final

from executor.event_loop import run_async
from executor.trees.tree import shown
from keys.errors import CalyxError
from policies.fleet import Probe

MAX_BODY: Final = 64 * 1024
"""Bytes of an answer's body that are read. A longer one fails the probe."""
_TRY_S: Final = 2.0
_LEAST_S: Final = 0.5
_PAUSES_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2)

Gone = Callable[[float], bool]
"""Waits up to so many seconds for the service to end, and says whether it has."""
Command = Callable[[float], str | None]
"""Runs the probe's command, up to so many seconds; None when it passed, else what went wrong, in one line."""


def check_probe(
    probe: Probe,
    gone: Gone,
    ended: Callable[[], CalyxError],
    command: Command | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Prove that the service answers with the probe's status, and passes its command, within the probe's `timeout_s`;
    tried again until then. `monotonic`: seconds that only grow.

    Raises: CalyxError `probe_failed` with what the last try met; what `ended` makes as soon as the service is gone; as
    `command`.
    """
    deadline = monotonic() + probe.timeout_s
    tries = 0
    while True:
        # The last try begins when the time is over: the one before it may have been lost to a machine that stood still.
        left = deadline - monotonic()
        why = try_once(probe, max(_LEAST_S, left), command)
        # Another program may have answered on the service's port while the service failed to get it.
        if gone(0):
            raise ended()
        if why is None:
            return
        if left <= 0:
            raise CalyxError("probe_failed", f"the probe did not pass in {probe.timeout_s} s: {why}")
        pause = _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
        tries += 1
        if gone(max(0.0, min(pause, deadline - monotonic()))):
            raise ended()


def try_once(probe: Probe, timeout_s: float, command: Command | None = None) -> str | None:
    """Ask the URL, then run the command, each where the probe names one and at most for `timeout_s` seconds. None when
    both passed, else what was met, in one line. Raises: CalyxError `probe_failed` when there is no `command` and the
    probe names one.
    """
    if probe.hook is not None and command is None:
        raise CalyxError("probe_failed", f"nobody says what the probe's command {probe.hook} is")
    if probe.url is not None:
        why = try_url(probe.url, probe.status, min(_TRY_S, timeout_s))
        if why is not None:
            return f"{shown(probe.url)} did not answer {probe.status}: {why}"
    if command is not None:
        why = command(timeout_s)
        if why is not None:
            return f"the hook {probe.hook}: {why}"
    return None


def try_url(url: str, status: int, timeout_s: float) -> str | None:
    """Ask once. None when the answer has that status, else what was met, in one line."""
    return run_async(_ask(url, status, timeout_s))


async def _ask(url: str, status: int, timeout_s: float) -> str | None:
    import httpx

    tls = _tls()
    try:
        # The environment's proxies have no say in what production is asked, and a redirect would leave the signed URL.
        # What stands in that before an @ is public, and is not sent as a password.
        async with (
            # One limit for all of it: with one for each step, too, it would be chance which of them is met first.
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(
                verify=tls,
                timeout=None,  # noqa: S113
                trust_env=False,
                follow_redirects=False,
                auth=httpx.Auth(),
            ) as client,
            client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer,
        ):
            size = 0
            async for chunk in answer.aiter_raw():
                size += len(chunk)
                if size > MAX_BODY:
                    return f"the body is over {MAX_BODY} bytes"
            return None if answer.status_code == status else f"the status is {answer.status_code}"
    except TimeoutError:
        return f"no answer within {timeout_s:.1f} s"
    except Exception as error:  # noqa: BLE001  # such as idna's, for a redirect that nobody follows
        # Whatever the library cannot make sense of, in the URL or in hostile bytes, is no answer.
        return type(error).__name__


@cache
def _tls() -> ssl.SSLContext:
    # Reading the authorities' certificates takes longer than a probe.
    import httpx

    return httpx.create_ssl_context(trust_env=False)
