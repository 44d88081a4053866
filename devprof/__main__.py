"""``python -m devprof``: the command line, for where the interpreter is known and the script's folder is not."""

import sys

from devprof.cli import main

if __name__ == "__main__":
    sys.exit(main(prog_name="devprof"))
