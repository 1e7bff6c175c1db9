"""``python -m comfy_fusionfft`` is the ``fusionfft`` command."""

from .cli import main

raise SystemExit(main())
