#!/bin/sh
# Asks the database that `freehold run` names in the environment, by the client of its engine.
set -eu

if [ -n "${SQLITE_PATH:-}" ]; then
    exec sqlite3 -batch -bail -init /dev/null "$SQLITE_PATH" "$1"
fi
exec mariadb --no-defaults --protocol=tcp --batch --skip-column-names \
    --default-character-set=utf8mb4 --user="$MYSQL_USER" --execute="$1" "$MYSQL_DATABASE"
