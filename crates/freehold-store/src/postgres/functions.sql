-- The functions of a store. {s} is the schema's name. A function's name carries its version; what a
-- replica of the previous program calls keeps its meaning.

CREATE OR REPLACE FUNCTION {s}.now_v1() RETURNS bigint LANGUAGE sql VOLATILE AS
$body$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $body$;

-- One batch. First the locks, in one order for everyone; then the checks, each with a snapshot that
-- was taken under the locks; then the writes. Nothing is written before everything is checked, so a
-- refusal is an answer and not an error. status: 0 done; 1 other definitions are in force now;
-- 2 an expired record (detail: collection, owner: key) stands in the way and must be locked too;
-- 3 precondition `at` failed; 4 the mode of write `at` failed; 5 a unique index (detail) has the value
-- of write `at` in record `owner`.
CREATE OR REPLACE FUNCTION {s}.apply_v1(
    p_space int, p_definitions bigint, p_stripes int[], p_exclusive boolean[],
    c_kind smallint[], c_collection text[], c_key bytea[], c_rev bigint[], c_nonce bytea[],
    w_collection text[], w_key bytea[], w_mode smallint[], w_value text[], w_expires bigint[],
    w_rev bigint[], w_expected bytea[], w_nonce bytea[], w_indexed boolean[], w_first int[],
    w_last int[],
    e_write int[], e_name text[], e_value bytea[], e_unique boolean[], e_taken int[],
    v_collection text[], v_key bytea[],
    OUT status int, OUT at int, OUT detail text, OUT owner bytea,
    OUT current_rev bigint, OUT current_nonce bytea, OUT revs bigint[]
) LANGUAGE plpgsql VOLATILE AS
$body$
DECLARE
    now_us bigint;
    found_rev bigint;
    found_nonce bytea;
    found_created bigint;
    found_expires bigint;
    old_rev bigint[] := '{}';
    old_created bigint[] := '{}';
    there boolean[] := '{}';
    victim_write int[] := '{}';
    victim_collection text[] := '{}';
    victim_key bytea[] := '{}';
    names text[];
    entry_values bytea[];
    uniques boolean[];
    other record;
    first_taken int;
    writes int := cardinality(w_key);
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'the store needs read committed transactions' USING ERRCODE = '25001';
    END IF;
    -- Whoever changes a definition holds this one exclusively.
    PERFORM pg_advisory_xact_lock_shared(p_space, -1);
    FOR i IN 1 .. cardinality(p_stripes) LOOP
        IF p_exclusive[i] THEN
            PERFORM pg_advisory_xact_lock(p_space, p_stripes[i]);
        ELSE
            PERFORM pg_advisory_xact_lock_shared(p_space, p_stripes[i]);
        END IF;
    END LOOP;
    PERFORM FROM {s}.meta WHERE name = 'definitions' AND value = p_definitions;
    IF NOT FOUND THEN
        status := 1;
        RETURN;
    END IF;

    now_us := {s}.now_v1();
    FOR i IN 1 .. cardinality(c_kind) LOOP
        IF c_kind[i] = 0 THEN
            -- The share lock keeps the lease from going to another holder before we commit. The
            -- time is read again after waiting for it.
            PERFORM FROM {s}.leases
                WHERE name = c_key[i] AND epoch = c_rev[i] AND until > {s}.now_v1() FOR SHARE;
            IF NOT FOUND THEN
                status := 3;
                at := i;
                RETURN;
            END IF;
            CONTINUE;
        END IF;
        SELECT rev, nonce INTO current_rev, current_nonce FROM {s}.records
            WHERE collection = c_collection[i] AND key = c_key[i]
            AND (expires IS NULL OR expires > now_us);
        IF (c_kind[i] = 1 AND (current_rev IS DISTINCT FROM c_rev[i]
                OR current_nonce IS DISTINCT FROM c_nonce[i]))
            OR (c_kind[i] = 2 AND current_rev IS NOT NULL)
        THEN
            status := 3;
            at := i;
            RETURN;
        END IF;
    END LOOP;

    FOR i IN 1 .. writes LOOP
        SELECT rev, nonce, created, expires
            INTO found_rev, found_nonce, found_created, found_expires
            FROM {s}.records WHERE collection = w_collection[i] AND key = w_key[i];
        there[i] := found_rev IS NOT NULL;
        IF found_expires <= now_us THEN
            found_rev := NULL;
            found_nonce := NULL;
            found_created := NULL;
        END IF;
        old_rev[i] := found_rev;
        old_created[i] := found_created;
        -- Modes: 0 upsert, 1 create, 2 match, 3 delete any, 4 delete existing, 5 delete match.
        IF (w_mode[i] = 1 AND found_rev IS NOT NULL)
            OR (w_mode[i] = 4 AND found_rev IS NULL)
            OR (w_mode[i] IN (2, 5) AND (found_rev IS DISTINCT FROM w_rev[i]
                OR found_nonce IS DISTINCT FROM w_expected[i]))
        THEN
            status := 4;
            at := i;
            current_rev := found_rev;
            current_nonce := found_nonce;
            RETURN;
        END IF;
    END LOOP;

    FOR i IN 1 .. cardinality(e_write) LOOP
        IF e_taken[i] > 0 THEN
            first_taken := i;
            EXIT;
        END IF;
    END LOOP;
    IF true = ANY (e_unique) THEN
        FOR other IN
            SELECT n.i, n.write, n.name, r.collection, r.key, r.expires
            FROM unnest(e_write, e_name, e_value, e_unique)
                WITH ORDINALITY AS n (write, name, value, is_unique, i)
            JOIN {s}.entries e ON e.collection = w_collection[n.write] AND e.name = n.name
                AND e.value = n.value AND e.key <> w_key[n.write]
            JOIN {s}.records r ON r.collection = e.collection AND r.key = e.key
            -- What the batch rewrites no longer counts.
            WHERE n.is_unique AND (r.collection, r.key) NOT IN
                (SELECT w.collection, w.key FROM unnest(w_collection, w_key) AS w (collection, key))
            ORDER BY n.i
        LOOP
            EXIT WHEN first_taken <= other.i;
            at := other.write;
            detail := other.name;
            owner := other.key;
            IF other.expires IS NULL OR other.expires > now_us THEN
                status := 5;
                RETURN;
            ELSIF NOT EXISTS (SELECT FROM unnest(v_collection, v_key) AS v (collection, key)
                WHERE v.collection = other.collection AND v.key = other.key)
            THEN
                status := 2;
                detail := other.collection;
                RETURN;
            END IF;
            victim_write := victim_write || other.write;
            victim_collection := victim_collection || other.collection;
            victim_key := victim_key || other.key;
        END LOOP;
    END IF;
    IF first_taken IS NOT NULL THEN
        status := 5;
        at := e_write[first_taken];
        detail := e_name[first_taken];
        owner := w_key[e_taken[first_taken]];
        RETURN;
    END IF;

    -- Old entries go first, so that records of one batch may hand a unique value on.
    FOR i IN 1 .. cardinality(victim_key) LOOP
        DELETE FROM {s}.entries WHERE collection = victim_collection[i] AND key = victim_key[i];
    END LOOP;
    FOR i IN 1 .. writes LOOP
        CONTINUE WHEN NOT (w_indexed[i] AND there[i]);
        names := e_name[w_first[i]:w_last[i]];
        entry_values := e_value[w_first[i]:w_last[i]];
        DELETE FROM {s}.entries e WHERE e.collection = w_collection[i] AND e.key = w_key[i]
            AND NOT EXISTS (SELECT FROM unnest(names, entry_values) AS n (name, value)
                WHERE n.name = e.name AND n.value = e.value);
    END LOOP;

    FOR i IN 1 .. writes LOOP
        FOR j IN 1 .. cardinality(victim_key) LOOP
            CONTINUE WHEN victim_write[j] <> i;
            DELETE FROM {s}.records
                WHERE collection = victim_collection[j] AND key = victim_key[j];
            IF FOUND THEN
                INSERT INTO {s}.outbox (collection, key, at)
                    VALUES (victim_collection[j], victim_key[j], now_us);
            END IF;
        END LOOP;
        IF w_mode[i] >= 3 THEN
            revs[i] := NULL;
            CONTINUE WHEN NOT there[i];
            DELETE FROM {s}.records WHERE collection = w_collection[i] AND key = w_key[i];
            INSERT INTO {s}.outbox (collection, key, at)
                VALUES (w_collection[i], w_key[i], now_us);
            CONTINUE;
        END IF;
        revs[i] := coalesce(old_rev[i], 0) + 1;
        IF there[i] THEN
            UPDATE {s}.records SET value = w_value[i], rev = revs[i], nonce = w_nonce[i],
                created = coalesce(old_created[i], now_us), updated = now_us,
                expires = w_expires[i]
                WHERE collection = w_collection[i] AND key = w_key[i];
        ELSE
            INSERT INTO {s}.records
                (collection, key, value, rev, nonce, created, updated, expires)
                VALUES (w_collection[i], w_key[i], w_value[i], revs[i], w_nonce[i], now_us,
                    now_us, w_expires[i]);
        END IF;
        IF w_indexed[i] AND w_last[i] >= w_first[i] THEN
            names := e_name[w_first[i]:w_last[i]];
            entry_values := e_value[w_first[i]:w_last[i]];
            uniques := e_unique[w_first[i]:w_last[i]];
            INSERT INTO {s}.entries (collection, name, value, key, is_unique)
                SELECT w_collection[i], n.name, n.value, w_key[i], n.is_unique
                FROM unnest(names, entry_values, uniques) AS n (name, value, is_unique)
                ON CONFLICT (collection, name, value, key) DO NOTHING;
        END IF;
        INSERT INTO {s}.outbox (collection, key, rev, nonce, at)
            VALUES (w_collection[i], w_key[i], revs[i], w_nonce[i], now_us);
    END LOOP;
    status := 0;
END
$body$;

-- Gives every committed change a position. The lock makes it one at a time, and the snapshot of the
-- second statement is taken under it.
CREATE OR REPLACE FUNCTION {s}.sequence_v1(p_space int) RETURNS void LANGUAGE plpgsql VOLATILE AS
$body$
DECLARE
    moved_count bigint;
BEGIN
    PERFORM FROM {s}.outbox ORDER BY seq LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(p_space, -2);
    WITH moved AS (
        DELETE FROM {s}.outbox RETURNING seq, collection, key, rev, nonce, at
    ), placed AS (
        INSERT INTO {s}.feed (position, collection, key, rev, nonce, at)
        SELECT (SELECT last FROM {s}.feed_bounds) + row_number() OVER (ORDER BY seq),
            collection, key, rev, nonce, at FROM moved
        RETURNING 1
    )
    SELECT count(*) INTO moved_count FROM placed;
    IF moved_count > 0 THEN
        UPDATE {s}.feed_bounds SET last = last + moved_count;
    END IF;
END
$body$;

-- Removes expired records among those named, whose stripes the caller names too.
CREATE OR REPLACE FUNCTION {s}.purge_v1(
    p_space int, p_stripes int[], w_collection text[], w_key bytea[]
) RETURNS bigint LANGUAGE plpgsql VOLATILE AS
$body$
DECLARE
    removed bigint := 0;
    now_us bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(p_space, -1);
    FOR i IN 1 .. cardinality(p_stripes) LOOP
        PERFORM pg_advisory_xact_lock(p_space, p_stripes[i]);
    END LOOP;
    now_us := {s}.now_v1();
    FOR i IN 1 .. cardinality(w_key) LOOP
        DELETE FROM {s}.records
            WHERE collection = w_collection[i] AND key = w_key[i] AND expires <= now_us;
        CONTINUE WHEN NOT FOUND;
        DELETE FROM {s}.entries WHERE collection = w_collection[i] AND key = w_key[i];
        INSERT INTO {s}.outbox (collection, key, at)
            VALUES (w_collection[i], w_key[i], now_us);
        removed := removed + 1;
    END LOOP;
    RETURN removed;
END
$body$;

-- Removes changes that are older than p_keep microseconds, from the oldest on; it stops at the first
-- one that is younger, so that what is kept has no hole even when the clock jumped.
CREATE OR REPLACE FUNCTION {s}.trim_v1(p_space int, p_keep bigint, p_limit int)
RETURNS bigint LANGUAGE plpgsql VOLATILE AS
$body$
DECLARE
    up_to bigint;
    first_young bigint;
    removed bigint;
    oldest bigint := {s}.now_v1() - p_keep;
BEGIN
    PERFORM pg_advisory_xact_lock(p_space, -2);
    SELECT max(position), min(position) FILTER (WHERE at > oldest) INTO up_to, first_young
        FROM (SELECT position, at FROM {s}.feed ORDER BY position LIMIT p_limit) AS oldest_ones;
    IF first_young IS NOT NULL THEN
        up_to := first_young - 1;
    END IF;
    IF up_to IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM {s}.feed WHERE position <= up_to;
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF removed > 0 THEN
        UPDATE {s}.feed_bounds SET trimmed = up_to;
    END IF;
    RETURN removed;
END
$body$;
