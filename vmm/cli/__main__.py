"""`python -m vmm.cli`: the commands of this layer (`images.cli` adds those that build images)."""

import sys

from vmm.cli.main import main

sys.exit(main())
