"""`python -m cronsched.cli`, the same as `sched`."""

from cronsched.cli import main

main()
