# Runs one server and ends it when its owner says so or dies.
#
#   $1   the server's directory
#   $2.. the command
#
# Standard input is a pipe whose only writer is the test process. A line on it names a signal and
# whether to keep the directory; end of file without a line means that the owner is gone. The
# shell is in a process group of its own, so that what kills the owner's group does not kill it.
home=$1
shift
"$@" </dev/null >>"$home/log" 2>&1 &
server=$!
echo "$server" >"$home/pid"
echo "$server"
exec >/dev/null

signal=QUIT
files=remove
read -r signal files || { signal=QUIT; files=remove; }

kill "-$signal" "$server" 2>/dev/null
# A server that was stopped by a test cannot act on a signal before it is continued.
kill -CONT $(cat "/proc/$server/task/$server/children" 2>/dev/null) "$server" 2>/dev/null

# One that does not end is killed, together with those of its processes that would not notice.
(
    for _ in $(seq 100); do sleep 0.2; done
    kill -KILL $(cat "/proc/$server/task/$server/children" 2>/dev/null) "$server" 2>/dev/null
) &
killer=$!
wait "$server"
kill "$killer" 2>/dev/null

if [ "$files" = remove ]; then
    rm -rf "$home"
fi
