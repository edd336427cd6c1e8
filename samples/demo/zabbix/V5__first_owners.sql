INSERT INTO ownership (id, team)
SELECT hostid, 'monitoring' FROM hosts;
