-- Data that every shop starts with, in COPY's two usual formats.

COPY country (country_code, name) FROM stdin;
AT	Austria
BE	Belgium
CH	Switzerland
CZ	Czechia
DE	Germany
DK	Denmark
ES	Spain
FI	Finland
FR	France
GB	United Kingdom
IE	Ireland
IT	Italy
LU	Luxembourg
NL	Netherlands
NO	Norway
PL	Poland
PT	Portugal
SE	Sweden
US	United States
\.

COPY currency (currency_code, name, minor_digits) FROM stdin;
CHF	Swiss franc	2
EUR	euro	2
GBP	pound sterling	2
JPY	yen	0
USD	US dollar	2
\.

COPY tax_rate (country_code, percent) FROM stdin WITH (FORMAT csv);
AT,20.00
BE,21.00
DE,19.00
FR,20.00
IT,22.00
NL,21.00
SE,25.00
\.

COPY category (slug, title, position) FROM stdin;
books	Books; maps & "prints"	1
garden	Garden	2
kitchen	Kitchen	3
tools	Tools -- all of them	4
\.

INSERT INTO brand (name) VALUES ('Ahorn & Söhne'), ('O''Hara'), ('North; South');
INSERT INTO option_kind (name) VALUES ('colour'), ('size');
INSERT INTO option_value (option_kind_id, label)
SELECT k.option_kind_id, v.label
FROM option_kind k
JOIN (VALUES ('colour', 'red'), ('colour', 'blue'), ('size', 'S'), ('size', 'M'), ('size', 'L'))
    AS v (kind, label) ON v.kind = k.name;
INSERT INTO payment_method (code) VALUES ('card'), ('invoice'), ('transfer');
INSERT INTO carrier (name, tracking_url)
VALUES ('Post', 'https://post.example/track?n='), ('Rad', NULL);
INSERT INTO warehouse (code, country_code) VALUES ('DE-1', 'DE'), ('AT-1', 'AT');
INSERT INTO bin (warehouse_id, aisle, shelf)
SELECT w.warehouse_id, a.aisle, s.shelf
FROM warehouse w
CROSS JOIN (VALUES ('A'), ('B'), ('C')) AS a (aisle)
CROSS JOIN generate_series(1, 4) AS s (shelf);
