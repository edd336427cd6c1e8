/* What the tables must do by themselves.
   /* Bodies stand in dollar quotes; their semicolons end nothing. */ */

CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$;

CREATE TRIGGER product_touch BEFORE UPDATE ON product
    FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER customer_touch BEFORE UPDATE ON customer
    FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER order_touch BEFORE UPDATE ON "order"
    FOR EACH ROW EXECUTE FUNCTION touch();

CREATE FUNCTION record_order_state() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO order_event (order_id, new_state) VALUES (NEW.order_id, NEW.state);
    ELSIF NEW.state IS DISTINCT FROM OLD.state THEN
        IF OLD.state IN ('delivered', 'cancelled') THEN
            RAISE EXCEPTION 'order % is %; it''s final', OLD.order_id, OLD.state
                USING HINT = $hint$Make a return request; it changes no order.$hint$;
        END IF;
        INSERT INTO order_event (order_id, old_state, new_state)
        VALUES (NEW.order_id, OLD.state, NEW.state);
    END IF;
    RETURN NULL;
END;
$body$;

CREATE TRIGGER order_state AFTER INSERT OR UPDATE ON "order"
    FOR EACH ROW EXECUTE FUNCTION record_order_state();

CREATE FUNCTION refresh_order_total() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    affected bigint := CASE TG_OP WHEN 'DELETE' THEN OLD.order_id ELSE NEW.order_id END;
BEGIN
    UPDATE "order" o
    SET total_minor = COALESCE(
        (SELECT sum(l.quantity * l.unit_price_minor) FROM order_line l WHERE l.order_id = affected), 0)
    WHERE o.order_id = affected;
    RETURN NULL;
END;
$$;

CREATE TRIGGER order_line_total AFTER INSERT OR UPDATE OR DELETE ON order_line
    FOR EACH ROW EXECUTE FUNCTION refresh_order_total();

CREATE FUNCTION move_stock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stock AS s (bin_id, variant_id, quantity)
    VALUES (NEW.bin_id, NEW.variant_id, NEW.change)
    ON CONFLICT (bin_id, variant_id) DO UPDATE SET quantity = s.quantity + EXCLUDED.quantity;
    RETURN NULL;
END;
$$;

CREATE TRIGGER stock_movement_moves AFTER INSERT ON stock_movement
    FOR EACH ROW EXECUTE FUNCTION move_stock();

-- A function with a body of the SQL standard, which holds semicolons without any quotes.
CREATE FUNCTION price_of(wanted_variant bigint, wanted_currency char(3)) RETURNS bigint
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT CASE WHEN p.amount_minor < 0 THEN 0 ELSE p.amount_minor END
    FROM price p
    WHERE p.variant_id = wanted_variant
      AND p.currency_code = wanted_currency
      AND p.valid_from <= now()
    ORDER BY p.valid_from DESC
    LIMIT 1;
END;

CREATE PROCEDURE cancel_order(wanted_order bigint) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE "order" SET state = 'cancelled' WHERE order_id = wanted_order;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no order %', wanted_order;
    END IF;
END;
$$;
