-- Who buys. Countries come first, because addresses and taxes refer to them.

CREATE TABLE country (
    country_code char(2) PRIMARY KEY,
    name         text NOT NULL UNIQUE
);

CREATE TABLE customer (
    customer_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email       text NOT NULL,
    given_name  text NOT NULL,
    family_name text NOT NULL,
    locale      text NOT NULL DEFAULT 'en',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX customer_email_key ON customer (lower(email));

CREATE TABLE address (
    address_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id  bigint NOT NULL REFERENCES customer (customer_id) ON DELETE CASCADE,
    lines        text[] NOT NULL CHECK (cardinality(lines) BETWEEN 1 AND 4),
    postal_code  text NOT NULL,
    city         text NOT NULL,
    country_code char(2) NOT NULL REFERENCES country (country_code)
);

CREATE TABLE customer_group (
    customer_group_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name              text NOT NULL UNIQUE,
    discount_percent  numeric(5, 2) NOT NULL DEFAULT 0 CHECK (discount_percent BETWEEN 0 AND 100)
);

CREATE TABLE customer_group_member (
    customer_group_id integer NOT NULL REFERENCES customer_group (customer_group_id),
    customer_id       bigint NOT NULL REFERENCES customer (customer_id) ON DELETE CASCADE,
    PRIMARY KEY (customer_group_id, customer_id)
);

CREATE TABLE wish (
    customer_id bigint NOT NULL REFERENCES customer (customer_id) ON DELETE CASCADE,
    variant_id  bigint NOT NULL REFERENCES variant (variant_id) ON DELETE CASCADE,
    wished_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer_id, variant_id)
);

CREATE INDEX address_customer_idx ON address (customer_id);
CREATE INDEX customer_group_member_customer_idx ON customer_group_member (customer_id);
CREATE INDEX wish_variant_idx ON wish (variant_id);
