-- Where the things stand that are watched.
CREATE TABLE site (
    id   integer PRIMARY KEY,
    name varchar(100) NOT NULL UNIQUE
);

INSERT INTO site (id, name) VALUES (1, 'Rotterdam; north quay'), (2, 'Zürich');
