# shellcheck shell=bash
# What the scripts share. They source it, with their own folder in $here.
# shellcheck disable=SC2154

# Becomes the program: $CKPT_CONVERT, or the one that laid this tree out (ckpt-convert scripts DIR), or the release build of
# this checkout, or ckpt-convert on PATH.
run() {
    local program
    if [ -n "${CKPT_CONVERT:-}" ]; then
        exec "$CKPT_CONVERT" "$@"
    fi
    for program in "$here/../ckpt-convert" "$here/../../target/release/ckpt-convert"; do
        if [ -f "$program" ] && [ -x "$program" ]; then
            exec "$program" "$@"
        fi
    done
    if ! command -v ckpt-convert >/dev/null; then
        echo "error: ckpt-convert is not on PATH; name the program with CKPT_CONVERT=/path/to/ckpt-convert" >&2
        exit 127
    fi
    exec ckpt-convert "$@"
}

# The path of a rank table: as it is named, else beside the script, else in env/.
rank_table() {
    local dir
    case $1 in
        /*) ;;
        *)
            for dir in . "$here" "$here/../env"; do
                if [ -f "$dir/$1" ]; then
                    readlink -f "$dir/$1"
                    return
                fi
            done
            echo "note: $1 is neither in $PWD nor in $(readlink -f "$here") nor in $(readlink -f "$here/../env")" >&2
            ;;
    esac
    printf '%s\n' "$1"
}

# The number of ranks among the options.
world_size() {
    local word previous='' found=''
    for word in "$@"; do
        case $previous in
            -w | --world_size | --world-size | --world_size_a | --world_size_1) found=$word ;;
        esac
        case $word in
            -w=* | --world_size=* | --world-size=* | --world_size_a=* | --world_size_1=*) found=${word#*=} ;;
            -w[0-9]*) found=${word#-w} ;;
        esac
        previous=$word
    done
    printf '%s\n' "$found"
}
