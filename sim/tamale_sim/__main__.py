"""`python -m tamale_sim` is the `tamale` command."""

import sys

from .cli import main

sys.exit(main())
