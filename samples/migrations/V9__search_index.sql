-- Built without blocking writers, which PostgreSQL does outside transactions only: such statements
-- stand in a script of their own, and say IF NOT EXISTS so that the script can be repeated.
SET lock_timeout = '5s';
CREATE INDEX CONCURRENTLY IF NOT EXISTS product_title_idx ON product (lower(title));
CREATE INDEX CONCURRENTLY IF NOT EXISTS payment_paid_at_idx ON payment (paid_at);
