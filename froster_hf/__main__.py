"""`python -m froster_hf` is `froster`."""

import sys

from .cli import main

sys.exit(main())
