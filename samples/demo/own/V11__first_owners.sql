INSERT INTO ownership (id, team)
SELECT product_id, 'monitoring' FROM product;
