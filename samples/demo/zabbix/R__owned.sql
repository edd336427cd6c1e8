-- Runs again whenever it has changed.
CREATE OR REPLACE VIEW owned AS
SELECT o.id, h.name, o.team, o.since
FROM ownership o
JOIN hosts h ON h.hostid = o.id;
