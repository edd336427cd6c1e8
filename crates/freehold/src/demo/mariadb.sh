# A private MariaDB server in a directory ($1) on a port of the loopback interface ($2). Whoever runs this
# is its administrator, through its socket and nowhere else. As root the server runs as Debian's account for
# it, for it refuses to run as root.
set -eu
# Until the server runs, everything that this started ends with it; what makes a data directory does not
# listen to a milder signal.
trap 'kill -KILL 0' TERM
me=$(id -un)
mkdir -m 711 "$1" "$1/tmp"
set -- "$1" "$2" --no-defaults "--datadir=$1/data" "--tmpdir=$1/tmp" --innodb-log-file-size=8M
if [ "$me" = root ]; then
    chown mysql "$1" "$1/tmp"
    set -- "$@" --user=mysql
fi
directory=$1 port=$2
shift 2
mariadb-install-db "$@" --skip-test-db --skip-name-resolve \
    --auth-root-authentication-method=socket "--auth-root-socket-user=$me" &
wait $!
set -- "$@" "--socket=$directory/socket" "--pid-file=$directory/pid" \
    --bind-address=127.0.0.1 "--port=$port" --skip-name-resolve --skip-log-bin \
    --innodb-buffer-pool-size=32M --innodb-flush-log-at-trx-commit=2 --innodb-fast-shutdown=2
PATH=$PATH:/usr/sbin:/usr/local/sbin
trap - TERM
# The kernel forgets with the change of the account that the server is to end with the demo.
if [ "$me" = root ]; then
    exec setpriv --reuid=mysql --regid=mysql --clear-groups --pdeathsig=TERM -- mariadbd "$@"
fi
exec mariadbd "$@"
