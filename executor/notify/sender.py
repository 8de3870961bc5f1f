"""One delivery to one address, as a process of its own: `python -m executor.notify.sender`, the message on its input.

It alone imports apprise, so that only a process that sends pays for that, and a plugin that hangs or crashes takes
nothing with it. The address comes by a pipe, never as an argument that `ps` shows. It prints nothing: libraries mention
addresses in what they log. Its exit code is all that it says.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any, Final

DELIVERED: Final = 0
REFUSED: Final = 10
BAD_ADDRESS: Final = 11
NO_APPRISE: Final = 12
BROKEN: Final = 13
MAX_INPUT: Final = 64 * 1024

_QUIET: Final = {
    "app_id": "calyx",
    "app_desc": "Station Calyx",
    "app_url": "",
    "async_mode": False,
    "secure_logging": True,
    "interpret_escapes": False,
    "interpret_emojis": False,
    "allow_templates": False,
    "pem_autogen": False,
    "pgp_autogen": False,
    "http_redirects": False,
    "plugin_paths": [],
}
"""Settings of apprise that keep a text a text, and the disk as it is. Older releases have not all of them."""


def deliver(url: str, title: str, body: str, kind: str) -> int:
    """Send one message to one address; an exit code."""
    try:
        from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType
    except ImportError:
        return NO_APPRISE
    settings: dict[str, Any] = {name: value for name, value in _QUIET.items() if hasattr(AppriseAsset, name)}
    asset = AppriseAsset(**settings)
    service = Apprise(asset=asset)
    if not service.add(url):
        return BAD_ADDRESS
    kinds = {"info": NotifyType.INFO, "success": NotifyType.SUCCESS, "warning": NotifyType.WARNING}
    kinds["failure"] = NotifyType.FAILURE
    sent = service.notify(title=title, body=body, body_format=NotifyFormat.TEXT, notify_type=kinds[kind])
    return DELIVERED if sent else REFUSED


def main() -> int:
    """Read a request from standard input and deliver it."""
    logging.disable(logging.CRITICAL)
    request: Any = json.loads(sys.stdin.buffer.read(MAX_INPUT))
    # Whoever started this kills it when its time is over; if nobody is there any more, it ends by itself.
    signal.alarm(request["seconds"])
    return deliver(request["url"], request["title"], request["body"], request["kind"])


if __name__ == "__main__":
    try:
        code = main()
    except BaseException:  # noqa: BLE001  # a traceback would show the address
        code = BROKEN
    # Threads that a plugin left behind keep nobody waiting.
    os._exit(code)
