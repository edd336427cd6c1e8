-- Where goods lie and how they travel.

CREATE TABLE warehouse (
    warehouse_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code         text NOT NULL UNIQUE,
    country_code char(2) NOT NULL REFERENCES country (country_code)
);

CREATE TABLE bin (
    bin_id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    warehouse_id integer NOT NULL REFERENCES warehouse (warehouse_id),
    aisle        text NOT NULL,
    shelf        integer NOT NULL,
    UNIQUE (warehouse_id, aisle, shelf)
);

CREATE TABLE stock (
    bin_id     integer NOT NULL REFERENCES bin (bin_id),
    variant_id bigint NOT NULL REFERENCES variant (variant_id),
    quantity   integer NOT NULL DEFAULT 0 CHECK (quantity >= 0),
    PRIMARY KEY (bin_id, variant_id)
);

CREATE TABLE stock_movement (
    stock_movement_id bigint GENERATED ALWAYS AS IDENTITY,
    bin_id            integer NOT NULL REFERENCES bin (bin_id),
    variant_id        bigint NOT NULL REFERENCES variant (variant_id),
    change            integer NOT NULL CHECK (change <> 0),
    reason            text NOT NULL,
    moved_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (moved_at, stock_movement_id)
) PARTITION BY RANGE (moved_at);

CREATE TABLE stock_movement_past PARTITION OF stock_movement
    FOR VALUES FROM (MINVALUE) TO ('2030-01-01');
CREATE TABLE stock_movement_rest PARTITION OF stock_movement DEFAULT;

CREATE TABLE supplier (
    supplier_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    email       text NOT NULL
);

CREATE TABLE purchase_order (
    purchase_order_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    supplier_id       integer NOT NULL REFERENCES supplier (supplier_id),
    warehouse_id      integer NOT NULL REFERENCES warehouse (warehouse_id),
    expected_on       date
);

CREATE TABLE purchase_order_line (
    purchase_order_id bigint NOT NULL REFERENCES purchase_order (purchase_order_id) ON DELETE CASCADE,
    variant_id        bigint NOT NULL REFERENCES variant (variant_id),
    quantity          integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (purchase_order_id, variant_id)
);

CREATE TABLE carrier (
    carrier_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL UNIQUE,
    tracking_url text
);

CREATE TABLE shipment (
    shipment_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id        bigint NOT NULL REFERENCES "order" (order_id),
    warehouse_id    integer NOT NULL REFERENCES warehouse (warehouse_id),
    carrier_id      integer NOT NULL REFERENCES carrier (carrier_id),
    tracking_number text,
    shipped_at      timestamptz
);

CREATE TABLE shipment_line (
    shipment_id bigint NOT NULL REFERENCES shipment (shipment_id) ON DELETE CASCADE,
    order_id    bigint NOT NULL,
    line_number integer NOT NULL,
    quantity    integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (shipment_id, order_id, line_number),
    FOREIGN KEY (order_id, line_number) REFERENCES order_line (order_id, line_number)
);

CREATE TABLE return_request (
    return_request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shipment_id       bigint NOT NULL REFERENCES shipment (shipment_id),
    reason            text NOT NULL,
    requested_at      timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX stock_variant_idx ON stock (variant_id);
CREATE INDEX stock_movement_variant_idx ON stock_movement (variant_id, moved_at);
CREATE INDEX purchase_order_supplier_idx ON purchase_order (supplier_id);
CREATE INDEX shipment_order_idx ON shipment (order_id);
CREATE INDEX shipment_line_order_idx ON shipment_line (order_id, line_number);
CREATE INDEX return_request_shipment_idx ON return_request (shipment_id);
