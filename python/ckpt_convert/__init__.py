"""The program ckpt-convert, as a wheel installs it."""

import os
import sys
import sysconfig

NAME = "ckpt-convert"


def find_program():
    """The path of the program that was installed with this package."""
    here = os.path.dirname(os.path.realpath(__file__))
    places = [
        # The environment of this interpreter.
        sysconfig.get_path("scripts"),
        # pip install --user
        sysconfig.get_path("scripts", scheme="posix_user"),
        # pip install --prefix DIR: DIR/lib/python3.x/site-packages/ckpt_convert
        os.path.join(here, "..", "..", "..", "..", "bin"),
        # pip install --target DIR: DIR/ckpt_convert
        os.path.join(here, "..", "bin"),
    ]
    places = [os.path.normpath(place) for place in places]
    # The one that lies beside this package comes before one of another environment.
    places.sort(key=lambda place: not here.startswith(os.path.dirname(place) + os.sep))
    for place in places:
        path = os.path.join(place, NAME)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(
        "{} is in none of {}; install the wheel again: {} -m pip install --force-reinstall FILE.whl".format(
            NAME, ", ".join(places), sys.executable
        )
    )
