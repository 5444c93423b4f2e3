"""`python -m janus_training`: the command line."""

import sys

from .commands import main

sys.exit(main())
