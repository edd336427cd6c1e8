-- What a proxy keeps until its server has it, in words that SQLite and MariaDB share.
CREATE TABLE host (
    id   integer PRIMARY KEY,
    name varchar(128) NOT NULL UNIQUE
);

CREATE TABLE item (
    id      integer PRIMARY KEY,
    host_id integer NOT NULL,
    name    varchar(255) NOT NULL,
    FOREIGN KEY (host_id) REFERENCES host (id) ON DELETE CASCADE
);

CREATE INDEX item_by_host ON item (host_id);

CREATE TABLE measurement (
    item_id integer NOT NULL,
    clock   bigint NOT NULL,
    value   varchar(255) NOT NULL,
    PRIMARY KEY (item_id, clock),
    FOREIGN KEY (item_id) REFERENCES item (id) ON DELETE CASCADE
);
