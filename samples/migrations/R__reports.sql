CREATE OR REPLACE VIEW revenue_by_day AS
SELECT o.placed_at::date AS day, o.currency_code, count(*) AS orders, sum(o.total_minor) AS total_minor
FROM "order" o
WHERE o.state <> 'cancelled'
GROUP BY o.placed_at::date, o.currency_code;

CREATE OR REPLACE VIEW product_rating AS
SELECT p.product_id, p.title, count(r.review_id) AS reviews, round(avg(r.stars), 2) AS stars
FROM product p
LEFT JOIN review r USING (product_id)
GROUP BY p.product_id, p.title;
