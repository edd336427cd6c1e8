-- Carts, orders, discounts and taxes. This script brings its own transaction, as some tools export
-- them; the runner makes it one with the history row.
BEGIN;

CREATE TYPE order_state AS ENUM ('placed', 'paid', 'packed', 'shipped', 'delivered', 'cancelled');

CREATE TABLE cart (
    cart_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer_id bigint REFERENCES customer (customer_id) ON DELETE SET NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cart_line (
    cart_id    uuid NOT NULL REFERENCES cart (cart_id) ON DELETE CASCADE,
    variant_id bigint NOT NULL REFERENCES variant (variant_id),
    quantity   integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (cart_id, variant_id)
);

CREATE TABLE tax_rate (
    country_code char(2) NOT NULL REFERENCES country (country_code),
    kind         text NOT NULL DEFAULT 'standard',
    percent      numeric(5, 2) NOT NULL CHECK (percent BETWEEN 0 AND 100),
    PRIMARY KEY (country_code, kind)
);

CREATE TABLE coupon (
    coupon_id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code             text NOT NULL UNIQUE,
    percent_off      numeric(5, 2) NOT NULL CHECK (percent_off BETWEEN 0 AND 100),
    valid_until      timestamptz,
    redemptions_left integer CHECK (redemptions_left >= 0)
);

CREATE TABLE "order" (
    order_id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id         bigint NOT NULL REFERENCES customer (customer_id),
    shipping_address_id bigint NOT NULL REFERENCES address (address_id),
    billing_address_id  bigint NOT NULL REFERENCES address (address_id),
    coupon_id           integer REFERENCES coupon (coupon_id),
    currency_code       char(3) NOT NULL REFERENCES currency (currency_code),
    state               order_state NOT NULL DEFAULT 'placed',
    total_minor         bigint NOT NULL DEFAULT 0,
    placed_at           timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE order_line (
    order_id         bigint NOT NULL REFERENCES "order" (order_id) ON DELETE CASCADE,
    line_number      integer NOT NULL,
    variant_id       bigint NOT NULL REFERENCES variant (variant_id),
    quantity         integer NOT NULL CHECK (quantity > 0),
    unit_price_minor bigint NOT NULL CHECK (unit_price_minor >= 0),
    PRIMARY KEY (order_id, line_number)
);

CREATE TABLE order_event (
    order_event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id       bigint NOT NULL REFERENCES "order" (order_id) ON DELETE CASCADE,
    old_state      order_state,
    new_state      order_state NOT NULL,
    happened_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX cart_customer_idx ON cart (customer_id);
CREATE INDEX cart_line_variant_idx ON cart_line (variant_id);
CREATE INDEX order_customer_idx ON "order" (customer_id, placed_at DESC);
CREATE INDEX order_open_idx ON "order" (placed_at) WHERE state NOT IN ('delivered', 'cancelled');
CREATE INDEX order_line_variant_idx ON order_line (variant_id);
CREATE INDEX order_event_order_idx ON order_event (order_id, happened_at);

COMMIT;
