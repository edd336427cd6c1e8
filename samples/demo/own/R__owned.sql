-- Runs again whenever it has changed.
CREATE OR REPLACE VIEW owned AS
SELECT o.id, p.title AS name, o.team, o.since
FROM ownership o
JOIN product p ON p.product_id = o.id;
