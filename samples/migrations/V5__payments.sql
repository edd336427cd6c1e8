-- Money in, money back, and who said what about the goods.

CREATE TABLE payment_method (
    payment_method_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code              text NOT NULL UNIQUE,
    is_active         boolean NOT NULL DEFAULT true
);

CREATE TABLE payment (
    payment_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id          bigint NOT NULL REFERENCES "order" (order_id),
    payment_method_id integer NOT NULL REFERENCES payment_method (payment_method_id),
    amount_minor      bigint NOT NULL CHECK (amount_minor > 0),
    reference         text UNIQUE,
    paid_at           timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE refund (
    refund_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id   bigint NOT NULL REFERENCES payment (payment_id),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    refunded_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE invoice (
    invoice_number text PRIMARY KEY,
    order_id       bigint NOT NULL UNIQUE REFERENCES "order" (order_id),
    issued_on      date NOT NULL DEFAULT current_date
);

CREATE TABLE review (
    review_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id  bigint NOT NULL REFERENCES product (product_id) ON DELETE CASCADE,
    customer_id bigint NOT NULL REFERENCES customer (customer_id) ON DELETE CASCADE,
    stars       smallint NOT NULL CHECK (stars BETWEEN 1 AND 5),
    text        text NOT NULL DEFAULT '',
    written_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (product_id, customer_id)
);

CREATE INDEX payment_order_idx ON payment (order_id);
CREATE INDEX refund_payment_idx ON refund (payment_id);
CREATE INDEX review_customer_idx ON review (customer_id);
