use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::failure::Exit;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn surroundings(&self, more: &[(&str, &str)]) -> Surroundings {
        let home = self.0.path().to_str().unwrap();
        Surroundings::with(&[&[("HOME", home)], more].concat())
    }

    fn write(&self, path: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

const CONTEXTS: &str = ".config/freehold/contexts.toml";
const CONFIG: &str = ".config/freehold/freehold.toml";
const BOOTSTRAP: &str = ".local/share/freehold/bootstrap-token";

#[test]
fn without_anything_the_defaults_hold() {
    let home = Home::new();
    let settings = Settings::resolve(&Global::default(), &home.surroundings(&[])).unwrap();
    assert_eq!(settings.server, "http://127.0.0.1:7440");
    assert_eq!(settings.environment, name("local"));
    assert!(settings.team.is_none() && settings.token.is_none());
}

#[test]
fn a_flag_wins_over_the_context_and_the_context_over_the_file() {
    let home = Home::new();
    home.write(CONFIG, "[client]\nenv = 'file'\nteam = 'file'\n", 0o644);
    home.write(
        CONTEXTS,
        "current = 'work'\n[contexts.work]\nserver = 'https://a'\nenv = 'saved'\ntoken = 't'\n",
        0o600,
    );
    let resolve = |global: &Global| Settings::resolve(global, &home.surroundings(&[])).unwrap();
    let settings = resolve(&Global::default());
    assert_eq!(settings.server, "https://a");
    assert_eq!(settings.environment, name("saved"));
    assert_eq!(settings.team, Some(name("file")));
    assert_eq!(
        settings.token.unwrap().1,
        TokenSource::Context(name("work"))
    );
    let settings = resolve(&Global {
        env: Some(name("flag")),
        ..Global::default()
    });
    assert_eq!(settings.environment, name("flag"));
}

#[test]
fn a_saved_token_goes_to_its_own_server_only() {
    let home = Home::new();
    home.write(
        CONTEXTS,
        "current = 'a'\n[contexts.a]\nserver = 'https://a'\nenv = 'prod'\ntoken = 't'\n",
        0o600,
    );
    let global = Global {
        server: Some("https://b".to_owned()),
        ..Global::default()
    };
    let settings = Settings::resolve(&global, &home.surroundings(&[])).unwrap();
    assert!(settings.token.is_none());
    assert_eq!(settings.environment, name("local"));
}

#[test]
fn the_first_token_is_found_on_this_machine_and_nowhere_else() {
    let home = Home::new();
    let path = home.write(BOOTSTRAP, "secret\n", 0o600);
    let resolve = |server: &str| {
        let global = Global {
            server: Some(server.to_owned()),
            ..Global::default()
        };
        let settings = Settings::resolve(&global, &home.surroundings(&[])).unwrap();
        settings
            .token
            .map(|(token, source)| (token.expose().to_owned(), source))
    };
    let found = Some(("secret".to_owned(), TokenSource::Bootstrap(path)));
    assert_eq!(resolve("http://127.0.0.1:7440"), found);
    assert_eq!(resolve("http://localhost:1"), found);
    assert_eq!(resolve("https://[::1]/x"), found);
    for elsewhere in [
        "https://example.com",
        "http://127.0.0.1.example.com",
        "http://localhost:1@example.com",
        "http://10.0.0.1",
    ] {
        assert_eq!(resolve(elsewhere), None, "{elsewhere}");
    }
}

#[test]
fn a_token_in_the_environment_wins_over_saved_ones() {
    let home = Home::new();
    home.write(BOOTSTRAP, "secret\n", 0o600);
    let surroundings = home.surroundings(&[("FREEHOLD_TOKEN", "other")]);
    let settings = Settings::resolve(&Global::default(), &surroundings).unwrap();
    assert_eq!(settings.token.unwrap().1, TokenSource::Variable);
}

#[test]
fn contexts_that_others_can_read_are_refused() {
    let home = Home::new();
    home.write(CONTEXTS, "", 0o644);
    let failure = Settings::resolve(&Global::default(), &home.surroundings(&[])).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.hint.unwrap().contains("chmod 600"));
}

#[test]
fn broken_contexts_do_not_show_their_tokens() {
    let home = Home::new();
    home.write(
        CONTEXTS,
        "[contexts.a]\nserver = 1\ntoken = 'hunter2'\n",
        0o600,
    );
    let failure = Settings::resolve(&Global::default(), &home.surroundings(&[])).unwrap_err();
    assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
}

#[test]
fn what_is_saved_is_private_and_comes_back() {
    let home = Home::new();
    let directories = Directories::of(&home.surroundings(&[])).unwrap();
    let mut contexts = Contexts {
        current: Some(name("a")),
        ..Contexts::default()
    };
    let context = Context {
        server: "https://a".to_owned(),
        ca: None,
        env: None,
        team: Some(name("shop")),
        token: Some(Secret::new("t")),
    };
    contexts.contexts.insert(name("a"), context);
    contexts.save(&directories).unwrap();
    let mode = std::fs::metadata(Contexts::path(&directories)).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let again = Contexts::load(&directories).unwrap();
    assert_eq!(again.contexts[&name("a")].team, Some(name("shop")));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest() {
    let parse = |text: &str| {
        let failure = ConfigFile::parse(text, Path::new("f.toml")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        format!("{} | {}", failure.message, failure.hint.unwrap_or_default())
    };
    assert_eq!(
        parse("[server]\n\nlisen = '127.0.0.1:1'\n"),
        "f.toml:3: there is no key `server.lisen` | Did you mean `server.listen`?"
    );
    assert_eq!(
        parse("[server.tsl]\nkey = 'x'\n"),
        "f.toml:1: there is no key `server.tsl` | Known keys: client.ca, client.env, client.server, client.team, server.data_dir, server.drift_interval_seconds, server.environment, server.exec_references, server.key, server.listen, server.log.filter, server.log.format, server.name, server.reconcile_interval_seconds, server.store.postgres, server.store.postgres_ca, server.store.sqlite, server.tls.certificate, server.tls.key, server.traces.endpoint, server.traces.service_name, server.workers."
    );
    assert!(parse("[client]\nteam = 'No Name'\n").contains("is not a name"));
    assert!(parse("[client\n").starts_with("f.toml: "));
}

#[test]
fn every_known_key_is_read() {
    let text = "
        [client]
        ca = '/ca'
        env = 'dev'
        server = 'https://x'
        team = 'shop'
        [server]
        data_dir = '/d'
        drift_interval_seconds = 1
        environment = 'dev'
        exec_references = true
        key = 'env:K'
        listen = '127.0.0.1:1'
        name = 'n'
        reconcile_interval_seconds = 1
        workers = 2
        log = { filter = 'debug', format = 'json' }
        store = { postgres = 'env:U', postgres_ca = '/ca', sqlite = '/s' }
        tls = { certificate = '/c', key = '/k' }
        traces = { endpoint = 'http://c:4318', service_name = 'fh' }
    ";
    let file = ConfigFile::parse(text, Path::new("f.toml")).unwrap();
    assert_eq!(file.server.log.format, Some(LogFormat::Json));
    for key in file::KEYS {
        let last = key.rsplit('.').next().unwrap();
        assert!(
            text.contains(&format!("{last} =")),
            "{key} is not in this test"
        );
    }
}

#[test]
fn every_known_key_is_documented() {
    let documentation = include_str!("../../../../docs/configuration.md");
    for key in file::KEYS {
        assert!(documentation.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn traces_go_where_the_strongest_word_says_and_nowhere_without_one() {
    let home = Home::new();
    let resolve = |flag: Option<&str>, variables: &[(&str, &str)]| {
        let settings = Settings::resolve(&Global::default(), &home.surroundings(variables));
        let overrides = ServerOverrides {
            traces_endpoint: flag.map(str::to_owned),
            ..ServerOverrides::default()
        };
        let traces = ServerSettings::resolve(&settings.unwrap(), overrides);
        traces.unwrap().traces
    };
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://base:4318/");
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own/path");
    let endpoint = |flag, variables: &[(&str, &str)]| resolve(flag, variables).map(|t| t.endpoint);
    let is = |text: &str| Some(text.to_owned());
    assert_eq!(endpoint(None, &[]), None);
    home.write(
        CONFIG,
        "[server.traces]\nendpoint = 'http://file:1'\n",
        0o644,
    );
    assert_eq!(endpoint(None, &[]), is("http://file:1/v1/traces"));
    assert_eq!(endpoint(None, &[base]), is("http://base:4318/v1/traces"));
    assert_eq!(endpoint(None, &[base, own]), is("http://own/path"));
    let flag = Some("http://flag:2");
    assert_eq!(endpoint(flag, &[own]), is("http://flag:2/v1/traces"));
    for off in [
        ("OTEL_SDK_DISABLED", "TRUE"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        assert_eq!(endpoint(flag, &[off]), None);
    }
    let name = |variables: &[(&str, &str)]| resolve(None, variables).unwrap().service_name;
    assert_eq!(name(&[]), is("freehold"));
    // The library reads these itself.
    assert_eq!(name(&[("OTEL_SERVICE_NAME", "x")]), None);
    let attributes = "a=b,service.name=x";
    assert_eq!(name(&[("OTEL_RESOURCE_ATTRIBUTES", attributes)]), None);
    let nonsense = [("OTEL_BSP_MAX_QUEUE_SIZE", "many")];
    assert_eq!(resolve(None, &nonsense).unwrap().queue_spans, 2048);
}
