"""`python -m executor` is `calyx`."""

from __future__ import annotations

from executor.main import main

if __name__ == "__main__":
    main()
