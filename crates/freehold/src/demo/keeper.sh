# Ends the PostgreSQL servers below the demo's directory ($1), which outlive the program that made
# them, and removes the directory unless it is kept ($2). It waits until it is told to, by the demo
# or, when that is killed, by the kernel.
end() {
    trap '' TERM
    kill "$nap" 2>/dev/null
    for file in "$1"/data/freehold/instances/*/data/postmaster.pid; do
        [ -f "$file" ] && kill -INT "$(head -n 1 "$file")"
    done
    tries=0
    while [ "$tries" -lt 100 ] && ls "$1"/data/freehold/instances/*/data/postmaster.pid >/dev/null 2>&1; do
        tries=$((tries + 1))
        sleep 0.1
    done
    [ "$2" = keep ] || rm -rf "$1"
    exit
}
trap 'end "$@"' TERM
while :; do
    sleep 3600 &
    nap=$!
    wait "$nap"
done
