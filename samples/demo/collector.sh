#!/bin/sh
# A program of the monitoring team. It knows no host, no user and no password: `freehold run` puts
# them into its environment, where psql (like every PostgreSQL client) finds them.
set -eu

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<'SQL'
\pset footer off
BEGIN;
UPDATE ownership SET team = 'night-watch' WHERE id = (SELECT min(id) FROM ownership);
COMMIT;
SELECT team, count(*) AS owns, min(name) AS "for example" FROM owned GROUP BY team ORDER BY team;
SQL
