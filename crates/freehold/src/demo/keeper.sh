# Ends the servers below the demo's directory ($1), PostgreSQL's because they outlive the program that made
# them, MariaDB's in case the demo was killed; and removes the directory unless it is kept ($2). It waits until
# it is told to, by the demo or, when that is killed, by the kernel.
end() {
    trap '' TERM
    kill "$nap" 2>/dev/null
    for file in "$1"/data/freehold/instances/*/data/postmaster.pid; do
        [ -f "$file" ] && kill -INT "$(head -n 1 "$file")"
    done
    maria=
    [ -f "$1/mariadb/pid" ] && maria=$(head -n 1 "$1/mariadb/pid") && kill "$maria" 2>/dev/null
    tries=0
    while [ "$tries" -lt 100 ] && runs "$1"; do
        tries=$((tries + 1))
        sleep 0.1
    done
    # Whoever ends at this moment may still put something there.
    tries=0
    while [ "$2" != keep ] && [ "$tries" -lt 50 ] && ! rm -rf "$1" 2>/dev/null; do
        tries=$((tries + 1))
        sleep 0.1
    done
    exit
}
runs() {
    ls "$1"/data/freehold/instances/*/data/postmaster.pid >/dev/null 2>&1 ||
        { [ -n "$maria" ] && kill -0 "$maria" 2>/dev/null; }
}
trap 'end "$@"' TERM
while :; do
    sleep 3600 &
    nap=$!
    wait "$nap"
done
