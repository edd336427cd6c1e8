use std::{
    collections::BTreeSet,
    fmt::Display,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use freehold_lint::{
    Engine, Place, Policy, Product, Refusal, Refused, Report, Script, Sequence, Severity, Snapshot,
    render,
};
use freehold_migrate::{
    Bundle, Dialect, FileRole, Migration, Migrations, Mode, Project, RefusalCode, Settings,
    Statement, Version, role_of, split,
};

use crate::{
    arguments::Format,
    failure::{Exit, Failure, Outcome},
    output::Tone,
    session::Session,
};

/// Say what migrations would do to a database in use, before they run
///
/// Needs no server. Without --after, and without a snapshot that says it, all scripts count as pending: then their
/// tables are new, and nothing can block anybody. docs/lint.md explains the rules.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold lint --engine postgres:15
  freehold lint --after 41 --snapshot production.json --env prod
  freehold lint --after 41 --format github --fail-on warning")]
pub(crate) struct Args {
    /// Folder of the scripts
    #[arg(long, value_name = "DIR", default_value = "migrations")]
    dir: PathBuf,
    /// postgres, mariadb, mysql or sqlite, with a version if you like; the oldest supported one otherwise
    #[arg(long, value_name = "ENGINE", default_value = "postgres")]
    engine: Engine,
    /// The highest version that the database has applied: only later scripts are judged
    #[arg(long, value_name = "VERSION")]
    after: Option<Version>,
    /// JSON file with the sizes, columns, indexes and foreign keys of the database's tables
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// TOML file with severities [default: freehold-lint.toml in the folder, if it is there]
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Form of the report; `-o json` works too
    #[arg(long, value_name = "FORM")]
    format: Option<Form>,
    /// Exit with 1 when something at least this bad is found
    #[arg(long, value_name = "SEVERITY", default_value = "error")]
    fail_on: FailOn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people, with the line and what to write instead
    Text,
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// Annotations of a GitHub workflow
    Github,
    /// GitLab's code quality report
    Gitlab,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    Error,
    Warning,
    Note,
    Never,
}

pub(crate) fn run(args: &Args, session: &Session) -> Outcome {
    let snapshot: Option<Snapshot> = match &args.snapshot {
        None => None,
        Some(path) => Some(
            serde_json::from_str(&text_of(path)?)
                .map_err(|e| Failure::usage(format!("{} is no snapshot: {e}", path.display())))?,
        ),
    };
    let policy = policy(args, session)?;
    let applied = applied(args, snapshot.as_ref())?;
    if applied.is_none() {
        session.output.note(
            "all scripts count as pending, so no table is in use yet; say --after VERSION to judge the later ones only",
        );
    }
    let folder = Folder::read(&args.dir, dialect(args.engine.product))?;
    let report = folder.check(args, snapshot.as_ref(), &policy, applied.as_ref(), session)?;
    show(&report, args, session)?;
    let limit = match args.fail_on {
        FailOn::Error => Severity::Error,
        FailOn::Warning => Severity::Warning,
        FailOn::Note => Severity::Note,
        FailOn::Never => return Ok(()),
    };
    if report.worst().is_some_and(|worst| worst >= limit) {
        return Err(Failure::silent(Exit::Failed));
    }
    Ok(())
}

fn text_of(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|e| Failure::on_file("cannot read", path, &e))
}

fn dialect(product: Product) -> Dialect {
    match product {
        Product::Postgres => Dialect::Postgresql,
        Product::Mariadb | Product::Mysql => Dialect::Mysql,
        Product::Sqlite => Dialect::Sqlite,
    }
}

fn policy(args: &Args, session: &Session) -> Outcome<Policy> {
    let beside = args.dir.join("freehold-lint.toml");
    let path = match &args.rules {
        Some(path) => path,
        None if beside.is_file() => &beside,
        None => return Ok(Policy::default()),
    };
    let refuse = |what: &dyn Display| Failure::usage(format!("{}: {what}", path.display()));
    let policy: Policy = toml::from_str(&text_of(path)?).map_err(|e| refuse(&e))?;
    if let Some(unknown) = policy.unknown_rules().first() {
        return Err(refuse(&format!("there is no rule {unknown}"))
            .hint("docs/rules/README.md lists them all."));
    }
    Ok(policy.of_environment(Some(session.environment().as_str())))
}

fn applied(args: &Args, snapshot: Option<&Snapshot>) -> Outcome<Option<Version>> {
    if args.after.is_some() {
        return Ok(args.after.clone());
    }
    let said = snapshot.and_then(|snapshot| snapshot.applied.as_deref());
    said.map(str::parse)
        .transpose()
        .map_err(|e: freehold_migrate::InvalidVersion| {
            Failure::usage(format!("the snapshot's `applied`: {e}"))
        })
}

/// The folder's files, and what is wrong with their names.
struct Folder {
    files: Vec<(String, Vec<u8>)>,
    refused: Vec<Refused>,
    dialect: Dialect,
    /// What the folder's flyway.toml or flyway.conf says.
    settings: Settings,
}

impl Folder {
    fn read(dir: &Path, dialect: Dialect) -> Outcome<Self> {
        if !dir.is_dir() {
            return Err(
                Failure::not_found(format!("there is no folder {}", dir.display()))
                    .hint("Say where the scripts are with --dir."),
            );
        }
        let mut folder = Self {
            files: Vec::new(),
            refused: Vec::new(),
            dialect,
            settings: Project::of_folder(dir)
                .map_err(|e| Failure::failed(e.to_string()))?
                .settings,
        };
        folder.visit(dir, "")?;
        if folder.files.is_empty() && folder.refused.is_empty() {
            return Err(Failure::not_found(format!(
                "{} holds no migrations",
                dir.display()
            )));
        }
        Ok(folder)
    }

    fn visit(&mut self, dir: &Path, prefix: &str) -> Outcome {
        let mut entries = std::fs::read_dir(dir)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| Failure::on_file("cannot read", dir, &e))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let path = format!("{prefix}{}", name.to_string_lossy());
            let kind = entry
                .file_type()
                .map_err(|e| Failure::on_file("cannot read", &entry.path(), &e))?;
            match role_of(&path) {
                FileRole::Stray if kind.is_dir() && !name.to_string_lossy().starts_with('.') => {
                    self.visit(&entry.path(), &format!("{path}/"))?;
                }
                FileRole::Stray => {}
                FileRole::Refused(_) if self.settings.lenient_names => {}
                FileRole::Refused(refused) => self.refuse(path, refused.reason, refused.advice),
                _ if !kind.is_file() => self.refuse(
                    path,
                    "it is no plain file".to_owned(),
                    "Put the file itself there, no link to it.".to_owned(),
                ),
                FileRole::Migration(_) | FileRole::Callback(_) | FileRole::ScriptConfig => {
                    let bytes = std::fs::read(entry.path())
                        .map_err(|e| Failure::on_file("cannot read", &entry.path(), &e))?;
                    self.files.push((path, bytes));
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, file: String, reason: String, advice: String) {
        self.refused.push(Refused {
            what: Refusal::FileName,
            file,
            place: None,
            reason,
            advice,
        });
    }

    fn check(
        mut self,
        args: &Args,
        snapshot: Option<&Snapshot>,
        policy: &Policy,
        applied: Option<&Version>,
        session: &Session,
    ) -> Outcome<Report> {
        let bundle = self.bundle()?;
        let migrations = match &bundle {
            None => None,
            Some(bundle) => Some(Migrations::resolve(bundle).map_err(|refusals| {
                let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
                Failure::failed(lines.join("\n"))
            })?),
        };
        let mut refused = self.refused;
        let mut scripts = Vec::new();
        for migration in migrations.iter().flat_map(Migrations::all) {
            let pending = migration
                .version()
                .is_none_or(|version| applied.is_none_or(|applied| version > applied));
            scripts.push(script(migration, pending, &mut refused));
        }
        Ok(freehold_lint::check(&Sequence {
            engine: args.engine.clone(),
            scripts,
            snapshot,
            refused,
            policy,
            today: session.now().to_zoned(jiff::tz::TimeZone::UTC).date(),
        }))
    }

    /// What can be read of the folder. A file that cannot, or a second one of a version, becomes a finding, and the
    /// others are looked at all the same.
    fn bundle(&mut self) -> Outcome<Option<Bundle>> {
        loop {
            if self.files.is_empty() {
                return Ok(None);
            }
            let files = self.files.iter().cloned();
            let bundle = Bundle::from_files_with(self.dialect, self.settings.clone(), files)
                .map_err(|e| Failure::failed(e.to_string()))?;
            let Err(refusals) = Migrations::resolve(&bundle) else {
                return Ok(Some(bundle));
            };
            let mut left_out = BTreeSet::new();
            for refusal in refusals {
                let Some(file) = refusal.file else { continue };
                let duplicate = matches!(
                    refusal.code,
                    RefusalCode::DuplicateVersionedMigration
                        | RefusalCode::DuplicateRepeatableMigration
                );
                self.refused.push(Refused {
                    what: if duplicate {
                        Refusal::Duplicate
                    } else {
                        Refusal::Script
                    },
                    place: refusal.line.map(|line| place(line, refusal.column, "")),
                    file: file.clone(),
                    reason: refusal.reason,
                    advice: refusal.advice,
                });
                left_out.insert(file);
            }
            let before = self.files.len();
            self.files.retain(|(path, _)| !left_out.contains(path));
            if self.files.len() == before {
                return Ok(None);
            }
        }
    }
}

/// A script as the runner cuts it; when it would refuse it, as far as it can be cut.
fn script<'a>(
    migration: &'a Migration<'a>,
    pending: bool,
    refused: &mut Vec<Refused>,
) -> Script<'a> {
    let text = migration.text();
    let ranges = |statements: &[Statement]| statements.iter().map(Statement::range).collect();
    let (statements, in_transaction) = match migration.script() {
        Ok(script) => (ranges(&script.statements), script.mode != Mode::Bare),
        Err(refusals) => {
            if pending {
                refused.extend(refusals.into_iter().map(|refusal| Refused {
                    what: Refusal::Script,
                    file: migration.path.to_owned(),
                    place: refusal.line.map(|line| place(line, refusal.column, text)),
                    reason: refusal.reason,
                    advice: refusal.advice,
                }));
            }
            let statements = split(migration.dialect, text).unwrap_or_default();
            let bare = migration.config.execute_in_transaction == Some(false);
            (ranges(&statements), !bare)
        }
    };
    Script {
        path: migration.path,
        text,
        version: migration.version().map(Version::as_str),
        statements,
        in_transaction,
        pending,
    }
}

fn place(line: u32, column: Option<u32>, text: &str) -> Place {
    let column = column.unwrap_or(1);
    let excerpt = text
        .lines()
        .nth(line.saturating_sub(1) as usize)
        .unwrap_or_default();
    Place {
        line,
        column,
        end_line: line,
        end_column: column + 1,
        excerpt: excerpt.chars().take(200).collect(),
    }
}

fn show(report: &Report, args: &Args, session: &Session) -> Outcome {
    let out = &session.output;
    let structured = match out.format {
        Format::Json | Format::Yaml => Form::Json,
        _ => Form::Text,
    };
    let folder = args.dir.to_string_lossy();
    match args.format.unwrap_or(structured) {
        Form::Text => out.write(&render::text(report, &|tone, text| {
            let tone = match tone {
                render::Tone::Error => Tone::Bad,
                render::Tone::Warning => Tone::Warning,
                render::Tone::Note => Tone::Good,
                render::Tone::Strong => Tone::Strong,
                render::Tone::Faint => Tone::Faint,
            };
            out.paint(tone, text)
        })),
        Form::Json => out.value(report),
        Form::Sarif => out.value(&render::sarif(report, &folder, env!("CARGO_PKG_VERSION"))),
        Form::Github => out.write(&render::github(report, &folder)),
        Form::Gitlab => out.value(&render::gitlab(report, &folder)),
    }
}
