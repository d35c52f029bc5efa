"""``python -m graphlore.cli``."""

from . import main

main()
