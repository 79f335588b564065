"""What the checks of this folder have in common: running the program, and what failed."""
import subprocess

FAILED = []


def check(what, good):
    print(("ok    " if good else "FAIL  ") + what, flush=True)
    if not good:
        FAILED.append(what)


def run(program, *arguments):
    done = subprocess.run([program, *arguments, "-q"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)}: status {done.returncode}\n{done.stderr}")
