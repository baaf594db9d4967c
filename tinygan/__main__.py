"""`python -m tinygan` is the command `tinygan`."""
import sys

from tinygan.cli import main

sys.exit(main())
