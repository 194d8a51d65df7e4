# Every bash block of the documentation sources this file. Commands run as written. Slow commands get these additional
# options. If an option is given twice, the last one counts.
cheaper() {
    case "$*" in
        *--dry_run* | *--help*) command "$@" ;;
        *examples/train.py*) command "$@" --max_steps 2 --use_cpu --bf16 False --max_turn_length 24 --logging_steps 1 ;;
        *examples/make_tiny_model.py*) command "$@" --steps 20 ;;
        "tspo-trl quickstart"*) command "$@" --steps 2 --warm-start-steps 20 --num-test-questions 8 ;;
        "tspo-trl serve "* | "tspo-trl view "*--serve*) in_background "$@" ;;
        *) command "$@" ;;
    esac
}
accelerate() { cheaper accelerate "$@"; }
python() { cheaper python "$@"; }
tspo-trl() { cheaper tspo-trl "$@"; }

# A server runs in the background, as in another terminal, until the page ends.
in_background() {
    local output
    output=$(mktemp -p .)
    command "$@" >"$output" 2>&1 &
    until grep -q -e "^Listening on" -e "^Serving" "$output"; do
        kill -0 $! 2>/dev/null || { cat "$output"; return 1; }
        sleep 0.1
    done
    cat "$output"
}
