//! `flyway.toml` and `flyway.conf`, read as they stand in a project.
//!
//! Both say the same in two forms: tables below `[flyway]`, or `flyway.key=value` lines in Java's
//! properties format. Keys are Flyway's; each is taken, has no meaning here, or is refused.

use std::str::FromStr;

use super::Settings;
use crate::{Place, Refusal, RefusalCode};

/// A settings file, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsFile {
    pub settings: Settings,
    /// Where the scripts are, relative to the project, as far as the file says so.
    pub locations: Vec<String>,
    /// Settings that have no meaning here, because Freehold connects and decides where.
    pub without_meaning: Vec<String>,
}

/// Who connects, where, and how it looks on the screen is not the folder's matter here.
const WITHOUT_MEANING: &[&str] = &[
    "url",
    "user",
    "password",
    "driver",
    "connectRetries",
    "connectRetriesInterval",
    "createSchemas",
    "cleanDisabled",
    "cleanOnValidationError",
    "color",
    "loggers",
    "outputFile",
    "outputType",
    "outputQueryResults",
    "reportFilename",
    "reportEnabled",
    "workingDirectory",
    "jarDirs",
    "detectEncoding",
    "failOnMissingLocations",
    "failOnMissingTarget",
    "skipDefaultResolvers",
    "skipDefaultCallbacks",
    "licenseKey",
    "email",
    "token",
    "environment",
    "edition",
    "batch",
    "stream",
    "postgresql.transactional.lock",
    "kerberosConfigFile",
    "jdbcProperties",
    "id",
    "name",
    "databaseType",
];

/// Settings that would change what a run does, and that Freehold does not honour.
const REFUSED: &[(&str, &str)] = &[
    (
        "initSql",
        "Put its statements into a beforeMigrate.sql callback.",
    ),
    (
        "callbacks",
        "Java callbacks do not run here; write an SQL callback, e.g. afterMigrate.sql.",
    ),
    ("resolvers", "Java migrations do not run here."),
    ("callbackLocations", "Put the callbacks beside the scripts."),
    (
        "errorOverrides",
        "Handle the condition in the script itself.",
    ),
    ("cherryPick", "Give a target instead."),
    (
        "skipExecutingMigrations",
        "Nothing is recorded that did not run.",
    ),
    (
        "dryRunOutput",
        "`freehold migrate status` shows what would run.",
    ),
    ("tablespace", "Remove it; the history table is small."),
    (
        "sqlMigrationPrefix",
        "Scripts are named as by default: V1__description.sql.",
    ),
    (
        "repeatableSqlMigrationPrefix",
        "Scripts are named as by default: R__description.sql.",
    ),
    (
        "sqlMigrationSeparator",
        "Scripts are named as by default: V1__description.sql.",
    ),
    (
        "sqlMigrationSuffixes",
        "Scripts are named as by default: V1__description.sql.",
    ),
    (
        "placeholderSeparator",
        "Flyway's own placeholders are written ${flyway:user}.",
    ),
];

impl SettingsFile {
    /// Reads a file by its name: `.toml`, or properties otherwise.
    ///
    /// # Errors
    /// All settings that cannot be honoured, with their lines where the form has lines.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<Refusal>> {
        let entries = if name.ends_with(".toml") {
            of_toml(name, text)
        } else {
            Ok(of_properties(text))
        };
        let mut read = Self::default();
        let mut refusals = Vec::new();
        // A project that comes from Flyway keeps Flyway's leniency until it says otherwise.
        read.settings.lenient_names = true;
        for entry in entries.map_err(|refusal| vec![*refusal])? {
            if let Err((reason, advice)) = read.set(&entry.key, &entry.values) {
                let mut refusal = Refusal::new(RefusalCode::InvalidConfig, reason, advice);
                refusal = refusal.in_file(name);
                if let Some(line) = entry.line {
                    refusal = refusal.at(Place { line, column: 1 });
                }
                refusals.push(refusal);
            }
        }
        if refusals.is_empty() {
            Ok(read)
        } else {
            Err(refusals)
        }
    }

    fn set(&mut self, key: &str, values: &[String]) -> Result<(), (String, String)> {
        let settings = &mut self.settings;
        let joined = values.join(",");
        let value = joined.trim();
        if let Some(name) = key.strip_prefix("placeholders.") {
            let name = name.to_lowercase();
            settings.placeholders.insert(name, joined.clone());
            return Ok(());
        }
        match key {
            "locations" => self.locations = locations(values)?,
            "placeholderReplacement" => settings.placeholder_replacement = read(key, value)?,
            "placeholderPrefix" => settings.placeholder_prefix = filled(key, value)?,
            "placeholderSuffix" => settings.placeholder_suffix = filled(key, value)?,
            "outOfOrder" => settings.out_of_order = read(key, value)?,
            "target" => settings.target = target(value)?,
            "mixed" => settings.mixed = read(key, value)?,
            "executeInTransaction" => settings.execute_in_transaction = Some(read(key, value)?),
            "baselineVersion" => settings.baseline_version = version(key, value)?,
            "baselineDescription" => settings.baseline_description = filled(key, value)?,
            "baselineOnMigrate" => settings.baseline_on_migrate = read(key, value)?,
            "ignoreMigrationPatterns" => settings.ignore_migration_patterns = patterns(values)?,
            "installedBy" => settings.installed_by = Some(filled(key, value)?),
            "lockRetryCount" => {
                // Flyway's -1 is for ever, which is a day here.
                let count: i64 = read(key, value)?;
                settings.lock_retry_count = Some(u32::try_from(count).unwrap_or(24 * 3600));
            }
            "validateMigrationNaming" => settings.lenient_names = !read::<bool>(key, value)?,
            _ => return self.constant(key, value),
        }
        Ok(())
    }

    /// Settings that have one value here, and those that have none.
    fn constant(&mut self, key: &str, value: &str) -> Result<(), (String, String)> {
        let only: Option<&[&str]> = match key {
            "table" => Some(&["flyway_schema_history"]),
            "encoding" => Some(&["utf-8", "utf8"]),
            "group" => Some(&["false"]),
            "validateOnMigrate" => Some(&["true"]),
            "schemas" | "defaultSchema" => Some(&["", "public", "main"]),
            _ => None,
        };
        if let Some(only) = only {
            if only.contains(&value.to_ascii_lowercase().as_str()) {
                return Ok(());
            }
            return Err((
                format!("{key} is {value:?}, which Freehold does not honour"),
                match key {
                    "schemas" | "defaultSchema" => {
                        "The schema is the first of the database's search_path; set that instead."
                            .to_owned()
                    }
                    "group" => {
                        "Each script is one transaction with its history row; remove the line."
                            .to_owned()
                    }
                    _ => format!("Only {:?} is; remove the line.", only[0]),
                },
            ));
        }
        if let Some((_, advice)) = REFUSED.iter().find(|(refused, _)| *refused == key) {
            return Err((format!("{key} is not honoured here"), (*advice).to_owned()));
        }
        let plugin = [
            "check.",
            "vault.",
            "dapr.",
            "oracle.",
            "sqlserver.",
            "gcsm.",
        ];
        if WITHOUT_MEANING.contains(&key)
            || key.starts_with("jdbcProperties.")
            || plugin.iter().any(|prefix| key.starts_with(prefix))
        {
            self.without_meaning.push(key.to_owned());
            return Ok(());
        }
        Err((
            format!("{key:?} is no setting of Flyway's that Freehold knows"),
            "Correct its name, or remove it.".to_owned(),
        ))
    }
}

type Refused = (String, String);

fn read<T: FromStr>(key: &str, value: &str) -> Result<T, Refused> {
    let lower = value.to_ascii_lowercase();
    lower.parse().map_err(|_| {
        (
            format!("{key} is {value:?}"),
            if key == "lockRetryCount" {
                "Write a whole number.".to_owned()
            } else {
                "Write true or false.".to_owned()
            },
        )
    })
}

fn filled(key: &str, value: &str) -> Result<String, Refused> {
    if value.is_empty() {
        return Err((
            format!("{key} is empty"),
            "Give it a value, or remove it.".to_owned(),
        ));
    }
    Ok(value.to_owned())
}

fn version(key: &str, value: &str) -> Result<crate::Version, Refused> {
    value.parse().map_err(|error| {
        (
            format!("{key}: {error}"),
            "Write a version, e.g. 1.2.".to_owned(),
        )
    })
}

fn target(value: &str) -> Result<Option<crate::Version>, Refused> {
    match value.to_ascii_lowercase().as_str() {
        "latest" => Ok(None),
        word @ ("current" | "next") => Err((
            format!("target is {word:?}, which depends on the database"),
            "Write a version, or latest.".to_owned(),
        )),
        _ => version("target", value.trim_end_matches('?')).map(Some),
    }
}

fn patterns(values: &[String]) -> Result<Vec<super::IgnorePattern>, Refused> {
    values
        .iter()
        .flat_map(|value| value.split(','))
        .filter(|pattern| !pattern.trim().is_empty())
        .map(|pattern| {
            pattern
                .parse()
                .map_err(|error: super::InvalidIgnorePattern| {
                    (error.to_string(), "Correct the pattern.".to_owned())
                })
        })
        .collect()
}

fn locations(values: &[String]) -> Result<Vec<String>, Refused> {
    values
        .iter()
        .flat_map(|value| value.split(','))
        .map(|location| {
            let location = location.trim();
            match location.split_once(':') {
                Some(("filesystem", path)) => Ok(path.to_owned()),
                // A Maven or Gradle project's classpath has its resources at its root.
                Some(("classpath", path)) => Ok(format!(
                    "src/main/resources/{}",
                    path.trim_start_matches('/')
                )),
                None => Ok(format!(
                    "src/main/resources/{}",
                    location.trim_start_matches('/')
                )),
                Some((scheme, _)) => Err((
                    format!("scripts cannot be read from {scheme:?}"),
                    "Name folders of the project: filesystem:sql.".to_owned(),
                )),
            }
        })
        .collect()
}

/// One setting with its values, where it stands.
struct Setting {
    key: String,
    values: Vec<String>,
    line: Option<u32>,
}

/// Java's properties, as far as Flyway's files use them: `#` and `!` comments, `=` or `:`, a backslash at
/// the end of a line goes on in the next.
fn of_properties(text: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut lines = text.trim_start_matches('\u{feff}').lines().zip(1..);
    while let Some((first, line)) = lines.next() {
        let mut whole = first.trim_start().to_owned();
        if whole.is_empty() || whole.starts_with(['#', '!']) {
            continue;
        }
        while whole.ends_with('\\') && !whole.ends_with("\\\\") {
            whole.pop();
            match lines.next() {
                Some((next, _)) => whole.push_str(next.trim_start()),
                None => break,
            }
        }
        let (key, value) = whole.split_once(['=', ':']).unwrap_or((&whole, ""));
        let key = key.trim();
        settings.push(Setting {
            key: key.strip_prefix("flyway.").unwrap_or(key).to_owned(),
            values: vec![value.trim().replace("\\\\", "\\")],
            line: Some(line),
        });
    }
    settings
}

fn of_toml(name: &str, text: &str) -> Result<Vec<Setting>, Box<Refusal>> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1)
            .and_then(|line| u32::try_from(line).ok());
        let reason = format!("it is not valid TOML: {}", error.message());
        let refusal = Refusal::new(RefusalCode::InvalidConfig, reason, "Correct the file.");
        let refusal = refusal.in_file(name);
        Box::new(match line {
            Some(line) => refusal.at(Place { line, column: 1 }),
            None => refusal,
        })
    })?;
    let mut settings = Vec::new();
    for (key, value) in table {
        match (key.as_str(), value) {
            ("flyway", toml::Value::Table(table)) => flatten("", table, &mut settings),
            // Where and as whom environments connect.
            (key, _) => settings.push(Setting {
                key: match key {
                    "environments" | "flywayDesktop" | "redgateCompare" => "environment",
                    key => key,
                }
                .to_owned(),
                values: Vec::new(),
                line: None,
            }),
        }
    }
    Ok(settings)
}

fn flatten(prefix: &str, table: toml::Table, into: &mut Vec<Setting>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        let words = |value: toml::Value| match value {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        match value {
            toml::Value::Table(table) => flatten(&format!("{key}."), table, into),
            toml::Value::Array(values) => into.push(Setting {
                key,
                values: values.into_iter().map(words).collect(),
                line: None,
            }),
            value => into.push(Setting {
                key,
                values: vec![words(value)],
                line: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "\
# the team's
flyway.url=jdbc:postgresql://db/shop
flyway.locations=filesystem:sql,filesystem:more
flyway.placeholders.Schema = shop
flyway.placeholders.path=a=b
flyway.outOfOrder=true
flyway.ignoreMigrationPatterns=*:missing, \\
    repeatable:future
flyway.baselineVersion=1.1
flyway.target=5?
";

    const TOML: &str = r#"
[flyway]
locations = ["filesystem:sql", "filesystem:more"]
outOfOrder = true
ignoreMigrationPatterns = ["*:missing", "repeatable:future"]
baselineVersion = "1.1"
target = "5?"
[flyway.placeholders]
Schema = "shop"
path = "a=b"
[environments.default]
url = "jdbc:postgresql://db/shop"
"#;

    #[test]
    fn both_forms_say_the_same() {
        let conf = SettingsFile::parse("flyway.conf", CONF).expect("valid");
        let toml = SettingsFile::parse("flyway.toml", TOML).expect("valid");
        assert_eq!(conf.settings, toml.settings);
        assert_eq!(conf.locations, ["sql", "more"]);
        assert_eq!(toml.locations, conf.locations);
        assert_eq!(conf.without_meaning, ["url"]);
        assert_eq!(toml.without_meaning, ["environment"]);
        let settings = conf.settings;
        assert_eq!(settings.placeholders["schema"], "shop");
        assert_eq!(settings.placeholders["path"], "a=b");
        assert!(settings.out_of_order && settings.lenient_names);
        assert_eq!(settings.ignore_migration_patterns.len(), 2);
        assert_eq!(settings.target.expect("one").as_str(), "5");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_its_line() {
        for wrong in [
            "flyway.outOfOrder=perhaps",
            "flyway.initSql=SELECT 1",
            "flyway.table=changes",
            "flyway.encoding=ISO-8859-1",
            "flyway.outOfOrdre=true",
            "flyway.ignoreMigrationPatterns=missing",
            "flyway.locations=s3:bucket",
            "flyway.target=next",
            "flyway.group=true",
        ] {
            let refusals =
                SettingsFile::parse("flyway.conf", &format!("\n\n{wrong}\n")).expect_err(wrong);
            assert_eq!(refusals.len(), 1, "{wrong}");
            assert_eq!(refusals[0].line, Some(3), "{wrong}");
        }
        let refusals =
            SettingsFile::parse("flyway.toml", "[flyway]\na = = 1").expect_err("no TOML");
        assert_eq!(refusals[0].line, Some(2));
    }

    #[test]
    fn settings_survive_their_own_json() {
        let settings = SettingsFile::parse("flyway.toml", TOML)
            .expect("valid")
            .settings;
        let json = serde_json::to_string(&settings).expect("JSON");
        let back: Settings = serde_json::from_str(&json).expect("its own JSON");
        assert_eq!(back, settings);
    }
}
