use std::{
    collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
};

use freehold_api::{FileBinding, ServerBinding};
use freehold_model::kinds::Slot;
use proptest::prelude::*;

use super::*;

fn credentials() -> ServerBinding {
    ServerBinding {
        host: "db.example".to_owned(),
        port: 5432,
        database: "shop_main".to_owned(),
        username: "shop_main_a".to_owned(),
        password: Secret::new("hunter2"),
        sslmode: "verify-full".to_owned(),
        certificates: None,
        slot: Slot::A,
    }
}

fn on_postgres(server: &ServerBinding) -> BindingTarget {
    BindingTarget::Postgresql(server.clone())
}

/// Texts that end fields in one form or another.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z:/@?#&=%+\\\\'\"`$ \n\r\t;|<>{}\\[\\]()!*~^-]{1,24}",
        Just("';DROP TABLE x;--".to_owned()),
        Just("$(id)".to_owned()),
    ]
}

fn any_credentials() -> impl Strategy<Value = ServerBinding> {
    let host = prop_oneof![
        hostile(),
        Just("::1".to_owned()),
        Just("2001:db8::7".to_owned()),
        Just("/var/run/postgresql".to_owned()),
        Just("10.0.0.1".to_owned()),
    ];
    let host = host.prop_filter("a host is not empty", |host| !host.is_empty());
    (host, any::<u16>(), hostile(), hostile(), hostile()).prop_map(
        |(host, port, database, username, password)| ServerBinding {
            host,
            port,
            database,
            username,
            password: Secret::new(password),
            ..credentials()
        },
    )
}

fn without(credentials: &ServerBinding, characters: &[char]) -> ServerBinding {
    let clean = |text: &str| text.replace(characters, "");
    ServerBinding {
        host: clean(&credentials.host),
        database: clean(&credentials.database),
        username: clean(&credentials.username),
        password: Secret::new(clean(credentials.password.expose())),
        ..credentials.clone()
    }
}

fn unpercent(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        assert_ne!(byte, b'+', "some parsers read it as a space");
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// Host, port, database and parameters of what follows the user's part.
fn location(text: &str) -> (String, u16, String, BTreeMap<String, String>) {
    let (address, rest) = text.split_once('/').unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    let host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').unwrap().to_owned(),
        None => unpercent(host),
    };
    let (database, query) = rest.split_once('?').unwrap();
    let parameters = query.split('&').map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap();
        (name.to_owned(), unpercent(value))
    });
    (
        host,
        port.parse().unwrap(),
        unpercent(database),
        parameters.collect(),
    )
}

proptest! {
    #[test]
    fn a_uri_gives_back_what_went_in(credentials in any_credentials(), ca_path in hostile()) {
        let uri = postgres::uri(&credentials, Some(&ca_path));
        let rest = uri.expose().strip_prefix("postgresql://").unwrap();
        prop_assert_eq!(rest.matches('@').count(), 1);
        let (user, rest) = rest.split_once('@').unwrap();
        let (username, password) = user.split_once(':').unwrap();
        let (host, port, database, parameters) = location(rest);
        prop_assert_eq!(unpercent(username), credentials.username);
        prop_assert_eq!(unpercent(password), credentials.password.expose());
        prop_assert_eq!((host, port, database), (credentials.host, credentials.port, credentials.database));
        prop_assert_eq!(&parameters["sslmode"], "verify-full");
        prop_assert_eq!(&parameters["sslrootcert"], &ca_path);
    }

    #[test]
    fn a_jdbc_uri_gives_back_what_went_in(credentials in any_credentials()) {
        let uri = postgres::jdbc_uri(&credentials, None);
        let rest = uri.expose().strip_prefix("jdbc:postgresql://").unwrap();
        let (host, port, database, parameters) = location(rest);
        prop_assert_eq!((host, port, database), (credentials.host, credentials.port, credentials.database));
        prop_assert_eq!(&parameters["user"], &credentials.username);
        prop_assert_eq!(&parameters["password"], credentials.password.expose());
        prop_assert_eq!(parameters.len(), 3);
    }

    #[test]
    fn the_postgres_driver_reads_the_uri_as_it_was_meant(credentials in any_credentials()) {
        // The driver refuses what no server would take.
        let credentials = without(&credentials, &['\0']);
        let plain = !credentials.host.is_empty() && !credentials.host.contains(',');
        prop_assume!(plain && credentials.port > 0);
        let credentials = ServerBinding { sslmode: "require".to_owned(), ..credentials };
        let config: tokio_postgres::Config = postgres::uri(&credentials, None).expose().parse().unwrap();
        prop_assert_eq!(config.get_user().unwrap_or_default(), &credentials.username);
        prop_assert_eq!(config.get_password().unwrap_or_default(), credentials.password.expose().as_bytes());
        prop_assert_eq!(config.get_dbname().unwrap_or_default(), &credentials.database);
        prop_assert_eq!(config.get_ports(), &[credentials.port]);
        match &config.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => prop_assert_eq!(host, &credentials.host),
            tokio_postgres::config::Host::Unix(path) => prop_assert_eq!(path.as_path(), Path::new(&credentials.host)),
        }
    }

    #[test]
    fn a_pgpass_line_gives_back_what_went_in(credentials in any_credentials()) {
        let breaks = ['\n', '\r', '\0'];
        let clean = without(&credentials, &breaks);
        if clean != credentials {
            prop_assert!(on_postgres(&credentials).pgpass().is_err());
            prop_assert!(!on_postgres(&credentials).keys().contains_key("pgpass"));
        }
        // As libpq reads it: a backslash takes the meaning from what follows, a colon ends a field.
        let (line, mut fields) = (on_postgres(&clean).pgpass().unwrap(), vec![String::new()]);
        let mut characters = line.expose().chars();
        while let Some(c) = characters.next() {
            match c {
                ':' => fields.push(String::new()),
                '\\' => fields.last_mut().unwrap().push(characters.next().unwrap()),
                c => fields.last_mut().unwrap().push(c),
            }
        }
        let port = clean.port.to_string();
        prop_assert_eq!(fields, [&clean.host, &port, &clean.database, &clean.username, clean.password.expose()]);
    }

    #[test]
    fn json_gives_back_what_went_in(credentials in any_credentials()) {
        let parsed: BTreeMap<String, String> = serde_json::from_str(on_postgres(&credentials).json().expose()).unwrap();
        let keys = on_postgres(&credentials).keys();
        prop_assert_eq!(parsed.len(), keys.len());
        for (key, value) in keys {
            prop_assert_eq!(&parsed[key], value.expose());
        }
    }

    #[test]
    fn names_of_variables_are_names(prefix in any::<String>()) {
        for name in on_postgres(&credentials()).environment(Some(&prefix), None).into_keys() {
            prop_assert!(!name.starts_with(|c: char| c.is_ascii_digit()));
            prop_assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_shell_reads_the_env_file_as_it_was_meant(credentials in any_credentials()) {
        if without(&credentials, &['\0']) != credentials {
            prop_assert!(on_postgres(&credentials).dotenv(None, None).is_err());
        }
        let credentials = without(&credentials, &['\0']);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        fs::write(&path, on_postgres(&credentials).dotenv(Some("orders-v2"), None).unwrap().expose()).unwrap();
        let script = r#". "$1"; printf '%s\0' "$ORDERS_V2_PGHOST" "$ORDERS_V2_PGDATABASE" "$ORDERS_V2_PGUSER" "$ORDERS_V2_PGPASSWORD" "$ORDERS_V2_DATABASE_URL""#;
        let output = Command::new("/bin/sh").args(["-c", script, "sh"]).arg(&path).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        let uri = postgres::uri(&credentials, None);
        let expected = [
            &credentials.host, &credentials.database, &credentials.username,
            credentials.password.expose(), uri.expose(),
        ];
        prop_assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), expected);
        prop_assert!(output.stderr.is_empty());
    }
}

#[test]
fn the_usual_names_are_there() {
    let credentials = ServerBinding {
        certificates: Some("PEM".to_owned()),
        ..credentials()
    };
    let shown = |pairs: Vec<(String, Secret)>| {
        let lines = pairs
            .iter()
            .map(|(name, value)| format!("{name}={}", value.expose()));
        lines.collect::<Vec<_>>().join("\n")
    };
    let keys = on_postgres(&credentials)
        .keys()
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    insta::assert_snapshot!("keys", shown(keys.collect()));
    let environment =
        on_postgres(&credentials).environment(Some("orders"), Some("/b/certificates"));
    insta::assert_snapshot!("environment", shown(environment.into_iter().collect()));
}

#[test]
fn a_directory_holds_one_private_file_per_key() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("bindings/orders");
    write_directory(&directory, &on_postgres(&credentials())).unwrap();
    for (key, value) in on_postgres(&credentials()).keys() {
        assert_eq!(
            fs::read_to_string(directory.join(key)).unwrap(),
            value.expose()
        );
        let mode = fs::metadata(directory.join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    assert_eq!(
        fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn a_directory_changes_all_files_at_once_and_keeps_nothing_old() {
    let folder = tempfile::tempdir().unwrap();
    let old = ServerBinding {
        certificates: Some("PEM".to_owned()),
        ..credentials()
    };
    write_directory(folder.path(), &on_postgres(&old)).unwrap();
    let opened = folder
        .path()
        .join(fs::read_link(folder.path().join("..data")).unwrap());
    fs::create_dir(folder.path().join("..v99")).unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();

    let new = ServerBinding {
        username: "shop_main_b".to_owned(),
        ..credentials()
    };
    write_directory(folder.path(), &on_postgres(&new)).unwrap();
    assert_eq!(
        fs::read_to_string(folder.path().join("user")).unwrap(),
        "shop_main_b"
    );
    assert!(!opened.exists() && !folder.path().join("..v99").exists());
    let names: BTreeSet<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut expected: BTreeSet<String> = on_postgres(&new)
        .keys()
        .into_keys()
        .map(str::to_owned)
        .collect();
    expected.extend(["..data", "..lock", "..v2", "notes.txt"].map(str::to_owned));
    assert_eq!(names, expected, "links to keys that are no more are gone");
}

#[test]
fn a_readers_files_belong_together_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let version = |number: usize| ServerBinding {
        username: format!("user{number}"),
        password: Secret::new(format!("password{number}")),
        ..credentials()
    };
    write_directory(folder.path(), &on_postgres(&version(0))).unwrap();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=2)
            .map(|writer| {
                let (folder, version) = (folder.path(), &version);
                scope.spawn(move || {
                    for number in 0..50 {
                        write_directory(folder, &on_postgres(&version(number * 2 + writer)))
                            .unwrap();
                    }
                })
            })
            .collect();
        let mut seen = 0;
        while !writers.iter().all(|writer| writer.is_finished()) || seen == 0 {
            let data = folder
                .path()
                .join(fs::read_link(folder.path().join("..data")).unwrap());
            let read = |key: &str| fs::read_to_string(data.join(key)).ok();
            // A version that was cleared away meanwhile cannot be read at all.
            if let (Some(user), Some(password)) = (read("username"), read("password")) {
                assert_eq!(user.replace("user", "password"), password);
                seen += 1;
            }
        }
    });
}

#[test]
fn a_file_of_somebody_else_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("password"), "mine").unwrap();
    let error = write_directory(folder.path(), &on_postgres(&credentials())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(
        fs::read_to_string(folder.path().join("password")).unwrap(),
        "mine"
    );
}

/// As MariaDB's reader of option files does it.
fn option(line: &str) -> (String, String) {
    let (name, value) = line.split_once('=').unwrap();
    let Some(quoted) = value.strip_prefix('"') else {
        return (name.to_owned(), value.to_owned());
    };
    let mut characters = quoted.strip_suffix('"').unwrap().chars();
    let mut read = String::new();
    while let Some(c) = characters.next() {
        read.push(match c {
            '\\' => match characters.next().unwrap() {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'b' => '\u{8}',
                c @ ('\\' | '"') => c,
                other => panic!("an escape that the reader does not know: {other}"),
            },
            '"' => panic!("a quote ends the value"),
            c => c,
        });
    }
    (name.to_owned(), read)
}

proptest! {
    #[test]
    fn an_option_file_gives_back_what_went_in(credentials in any_credentials()) {
        let clean = without(&credentials, &['\0']);
        if clean != credentials {
            prop_assert!(BindingTarget::Mysql(credentials).my_cnf(None).is_err());
        }
        let text = BindingTarget::Mysql(clean.clone()).my_cnf(None).unwrap();
        let mut lines = text.expose().split_terminator('\n');
        prop_assert_eq!(lines.next(), Some("[client]"));
        let read: BTreeMap<String, String> = lines.filter(|line| line.contains('=')).map(option).collect();
        prop_assert_eq!(&read["host"], &clean.host);
        prop_assert_eq!(&read["database"], &clean.database);
        prop_assert_eq!(&read["user"], &clean.username);
        prop_assert_eq!(&read["password"], clean.password.expose());
        prop_assert_eq!(read.len(), 5, "no value begins a line of its own");
    }

    #[test]
    fn mysql_uris_give_back_what_went_in(credentials in any_credentials(), ca_path in hostile()) {
        let uri = mysql::uri(&credentials, Some(&ca_path));
        let rest = uri.expose().strip_prefix("mysql://").unwrap();
        let (user, rest) = rest.split_once('@').unwrap();
        let (username, password) = user.split_once(':').unwrap();
        let (host, port, database, parameters) = location(rest);
        prop_assert_eq!(unpercent(username), &*credentials.username);
        prop_assert_eq!(unpercent(password), credentials.password.expose());
        prop_assert_eq!((&host, port, &database), (&credentials.host, credentials.port, &credentials.database));
        prop_assert_eq!(&parameters["ssl-mode"], "VERIFY_IDENTITY");
        prop_assert_eq!(&parameters["ssl-ca"], &ca_path);
        let jdbc = mysql::jdbc_uri(&credentials, None);
        let rest = jdbc.expose().strip_prefix("jdbc:mariadb://").unwrap();
        let (host, port, database, parameters) = location(rest);
        prop_assert_eq!((&host, port, &database), (&credentials.host, credentials.port, &credentials.database));
        prop_assert_eq!(&parameters["password"], credentials.password.expose());
        prop_assert_eq!(&parameters["sslMode"], "verify-full");
    }

    #[test]
    fn redis_uris_give_back_what_went_in(credentials in any_credentials(), secured: bool) {
        let sslmode = if secured { "verify-full" } else { "disable" };
        let credentials = ServerBinding { sslmode: sslmode.to_owned(), ..credentials };
        let keys = BindingTarget::Redis(credentials.clone()).keys();
        let uri = keys["uri"].expose();
        let scheme = if secured { "rediss://" } else { "redis://" };
        let rest = uri.strip_prefix(scheme).unwrap();
        let (user, address) = rest.split_once('@').unwrap();
        let (username, password) = user.split_once(':').unwrap();
        prop_assert_eq!(unpercent(username), &*credentials.username);
        prop_assert_eq!(unpercent(password), credentials.password.expose());
        let port = format!(":{}", credentials.port);
        prop_assert!(address.ends_with(&port));
        let prefix = format!("{}:", credentials.database);
        prop_assert_eq!(keys["key-prefix"].expose(), &prefix);
        let variables = BindingTarget::Redis(credentials.clone()).environment(None, None);
        prop_assert_eq!(variables["REDIS_URL"].expose(), uri);
        prop_assert_eq!(variables["REDIS_KEY_PREFIX"].expose(), &prefix);
        prop_assert_eq!(&variables["REDISCLI_AUTH"], &credentials.password);
    }

    #[test]
    fn a_files_uri_gives_back_its_path(path in hostile(), read_only: bool) {
        let file = FileBinding { path: format!("/srv/{path}"), read_only };
        let uri = BindingTarget::Sqlite(file.clone()).keys()["uri"].expose().to_owned();
        let rest = uri.strip_prefix("sqlite://").unwrap();
        let (rest, mode) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b)));
        prop_assert_eq!(unpercent(rest), file.path);
        prop_assert_eq!(mode, read_only.then_some("mode=ro"));
    }
}

#[test]
fn a_form_of_another_engine_is_refused_by_name() {
    let mysql = BindingTarget::Mysql(credentials());
    assert_eq!(
        mysql.pgpass().unwrap_err().to_string(),
        ".pgpass is a form of PostgreSQL"
    );
    assert!(on_postgres(&credentials()).my_cnf(None).is_err());
}
