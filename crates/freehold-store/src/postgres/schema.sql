-- The tables and functions of a store, in one schema. {s} is the schema's name.
--
-- Keys and index values are bytea, because bytea compares as bytes under every collation. Times are
-- microseconds since 1970. What a function does is one transaction with no client in the middle of
-- it, so a client that stops or dies can hold no lock of the store.

CREATE TABLE {s}.meta (name text PRIMARY KEY, value bigint NOT NULL);
INSERT INTO {s}.meta VALUES ('format', 1), ('code', 0), ('definitions', 0);
CREATE TABLE {s}.collections (name text PRIMARY KEY, definition text NOT NULL);
CREATE TABLE {s}.records (
    collection text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    value text NOT NULL,
    rev bigint NOT NULL,
    nonce bytea NOT NULL,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    expires bigint,
    PRIMARY KEY (collection, key)
);
CREATE INDEX records_by_expiry ON {s}.records (expires) WHERE expires IS NOT NULL;
CREATE TABLE {s}.entries (
    collection text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    key bytea NOT NULL,
    is_unique boolean NOT NULL,
    PRIMARY KEY (collection, name, value, key)
);
CREATE INDEX entries_by_key ON {s}.entries (collection, key);
-- apply_v1 looks before it writes, under a lock on the value; this is the second lock on the door.
CREATE UNIQUE INDEX entries_unique ON {s}.entries (collection, name, value) WHERE is_unique;
-- Committed changes that have no position yet, in the order in which their locks were held.
CREATE TABLE {s}.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    rev bigint,
    nonce bytea,
    at bigint NOT NULL
);
CREATE TABLE {s}.feed (
    position bigint PRIMARY KEY,
    collection text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    rev bigint,
    nonce bytea,
    at bigint NOT NULL
);
CREATE TABLE {s}.feed_bounds (trimmed bigint NOT NULL, last bigint NOT NULL);
INSERT INTO {s}.feed_bounds VALUES (0, 0);
CREATE TABLE {s}.leases (
    name bytea PRIMARY KEY,
    holder text NOT NULL,
    epoch bigint NOT NULL,
    until bigint NOT NULL
);
