-- Who looks after which product.
CREATE TABLE ownership (
    id    bigint PRIMARY KEY,
    team  varchar(63) NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE ownership ADD FOREIGN KEY (id) REFERENCES product (product_id) ON DELETE CASCADE;

CREATE INDEX ownership_by_team ON ownership (team);
