#!/bin/bash
# The name of the original script; all options go to ckpt-convert as they are. One machine does all of the work, whatever
# ../env/set_2n_env.sh has set.
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../env/run.sh
. "$here/../env/run.sh"
run "$@"
