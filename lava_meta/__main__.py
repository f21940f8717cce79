"""`python -m lava_meta` is the command `lava-meta`."""

from lava_meta.cli import main

main()
