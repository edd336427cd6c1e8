-- Runs after the versioned migrations, again whenever this file has changed.

CREATE OR REPLACE VIEW stock_on_hand AS
SELECT s.variant_id, b.warehouse_id, sum(s.quantity) AS quantity
FROM stock s
JOIN bin b USING (bin_id)
GROUP BY s.variant_id, b.warehouse_id;

CREATE OR REPLACE VIEW listed_variant AS
SELECT v.variant_id, v.sku, p.product_id, p.title, b.name AS brand,
       price_of(v.variant_id, 'EUR') AS price_eur_minor
FROM variant v
JOIN product p USING (product_id)
LEFT JOIN brand b USING (brand_id)
WHERE p.state = 'listed';

CREATE OR REPLACE VIEW open_order AS
SELECT o.order_id, o.placed_at, o.state, o.total_minor, o.currency_code,
       c.given_name || ' ' || c.family_name AS customer
FROM "order" o
JOIN customer c USING (customer_id)
WHERE o.state NOT IN ('delivered', 'cancelled');
