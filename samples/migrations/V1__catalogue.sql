-- What the shop sells: products, their variants, categories and prices.

CREATE TABLE brand (
    brand_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE category (
    category_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent_id   integer REFERENCES category (category_id),
    slug        text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9-]+$'),
    title       text NOT NULL,
    position    integer NOT NULL DEFAULT 0
);

CREATE TABLE product (
    product_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    brand_id    integer REFERENCES brand (brand_id),
    slug        text NOT NULL UNIQUE,
    title       text NOT NULL,
    description text NOT NULL DEFAULT '',
    state       text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'listed', 'retired')),
    attributes  jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE product_category (
    product_id  bigint NOT NULL REFERENCES product (product_id) ON DELETE CASCADE,
    category_id integer NOT NULL REFERENCES category (category_id),
    PRIMARY KEY (product_id, category_id)
);

CREATE TABLE option_kind (
    option_kind_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text NOT NULL UNIQUE
);

CREATE TABLE option_value (
    option_value_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    option_kind_id  integer NOT NULL REFERENCES option_kind (option_kind_id),
    label           text NOT NULL,
    UNIQUE (option_kind_id, label)
);

CREATE TABLE variant (
    variant_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id   bigint NOT NULL REFERENCES product (product_id) ON DELETE CASCADE,
    sku          text NOT NULL UNIQUE,
    barcode      text,
    weight_grams integer NOT NULL CHECK (weight_grams >= 0),
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE variant_option (
    variant_id      bigint NOT NULL REFERENCES variant (variant_id) ON DELETE CASCADE,
    option_value_id integer NOT NULL REFERENCES option_value (option_value_id),
    PRIMARY KEY (variant_id, option_value_id)
);

CREATE TABLE currency (
    currency_code char(3) PRIMARY KEY,
    name          text NOT NULL,
    minor_digits  smallint NOT NULL DEFAULT 2
);

CREATE TABLE price (
    price_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    variant_id    bigint NOT NULL REFERENCES variant (variant_id) ON DELETE CASCADE,
    currency_code char(3) NOT NULL REFERENCES currency (currency_code),
    amount_minor  bigint NOT NULL CHECK (amount_minor >= 0),
    valid_from    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (variant_id, currency_code, valid_from)
);

CREATE TABLE product_image (
    product_image_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id       bigint NOT NULL REFERENCES product (product_id) ON DELETE CASCADE,
    url              text NOT NULL,
    alternative_text text NOT NULL DEFAULT '',
    position         integer NOT NULL DEFAULT 0
);

CREATE INDEX product_brand_idx ON product (brand_id);
CREATE INDEX product_category_category_idx ON product_category (category_id);
CREATE INDEX product_attributes_idx ON product USING gin (attributes);
CREATE INDEX variant_product_idx ON variant (product_id);
CREATE INDEX product_image_product_idx ON product_image (product_id, position);
