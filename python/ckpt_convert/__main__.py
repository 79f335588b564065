"""python -m ckpt_convert ...: the same as ckpt-convert ..."""

import os
import sys

from ckpt_convert import find_program

if __name__ == "__main__":
    try:
        program = find_program()
    except FileNotFoundError as error:
        sys.exit("error: {}".format(error))
    # In place of the interpreter: signals and the exit status are the program's own.
    os.execv(program, [program] + sys.argv[1:])
