"""``python -m graphlore``, and so ``torchrun --nproc-per-node=2 -m graphlore fit ...``."""

from .cli import main

main()
