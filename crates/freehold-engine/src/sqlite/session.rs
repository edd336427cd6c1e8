//! One pinned connection to one file, for migration scripts.
//!
//! A session is what `sqlite3` and the usual drivers give a script: foreign keys are off until it says
//! `PRAGMA foreign_keys = ON`, because scripts that rebuild a table rely on it (dropping the old table
//! would otherwise delete what refers to it); double-quoted strings are SQLite's default. Three things
//! are different: the authorizer (see `authorizer.rs`), the defensive mode, in which no statement can
//! write what would damage the file, and `synchronous = FULL`.
//!
//! Each statement runs on a thread that may block. A statement goes on when nobody waits for it any
//! more, until it ends or is cancelled; the next one waits for it. Cancelling also ends the waiting
//! for a lock.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{
    Batch, Connection, InterruptHandle, Statement, config::DbConfig,
    fallible_iterator::FallibleIterator as _, types::ValueRef,
};

use super::{
    BUSY_TIMEOUT, authorizer,
    connect::{self, Place},
    errors::{self, At as _, During},
};
use crate::{
    CopySource, EngineError, Executed, Fault, Interrupted, Result, ScriptSession, SessionCanceller,
};

/// Between two looks whether another's lock is gone.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// Steps of SQLite's machine between two looks whether somebody cancels.
const CANCEL_STEPS: i32 = 1000;
const NOTICES_MAX: usize = 1000;

/// A session for scripts on SQLite.
pub struct SqliteSession {
    file: PathBuf,
    place: Place,
    busy: Duration,
    connection: Arc<Mutex<Connection>>,
    cancel: Arc<Cancel>,
    notices: Arc<Mutex<Vec<String>>>,
}

/// Reaches the running statement from elsewhere.
struct Cancel {
    asked: AtomicBool,
    handle: Mutex<Option<InterruptHandle>>,
}

impl SqliteSession {
    /// Opens a file that exists.
    ///
    /// # Errors
    /// `Missing` when there is none, `Invalid` when it is not a SQLite file, `Denied`, `Busy`.
    pub async fn open(file: &Path) -> Result<Self> {
        Self::open_with_busy_timeout(file, BUSY_TIMEOUT).await
    }

    /// With another patience than 5 s for locks that others hold.
    pub async fn open_with_busy_timeout(file: &Path, busy: Duration) -> Result<Self> {
        let file = file.to_owned();
        off_thread("open the database", move || {
            let place = Place::at(&file, "open the database")?;
            let cancel = Arc::new(Cancel {
                asked: AtomicBool::new(false),
                handle: Mutex::new(None),
            });
            let notices = Arc::new(Mutex::new(Vec::new()));
            let connection = open(&file, busy, &cancel, &notices)?;
            *lock(&cancel.handle) = Some(connection.get_interrupt_handle());
            Ok(Self {
                file,
                place,
                busy,
                connection: Arc::new(Mutex::new(connection)),
                cancel,
                notices,
            })
        })
        .await
    }

    /// Runs `work` with the connection. What was asked to be cancelled before is forgotten.
    async fn with<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.cancel.asked.store(false, Ordering::SeqCst);
        let connection = self.connection.clone();
        off_thread(doing, move || work(&lock(&connection))).await
    }

    async fn run(&self, statements: &str) -> Result<Executed, Interrupted> {
        let (text, file) = (statements.to_owned(), self.file.clone());
        let ran = self.with("run a statement", move |connection| {
            Ok(run(connection, &text, &file))
        });
        match ran.await {
            Ok(ran) => ran,
            Err(error) => Err(Interrupted {
                completed: None,
                error,
            }),
        }
    }
}

async fn off_thread<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(EngineError::new(Fault::Undetermined, doing).because(error)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new session's connection.
fn open(
    file: &Path,
    busy: Duration,
    cancel: &Arc<Cancel>,
    notices: &Arc<Mutex<Vec<String>>>,
) -> Result<Connection> {
    let doing = "open the database";
    if !file.symlink_metadata().at(file, doing)?.is_file() {
        let detail = format!("{} is not a file", file.display());
        return Err(EngineError::new(Fault::Invalid { detail }, doing));
    }
    let fail = |error| errors::sqlite(error, file, During::Work, doing);
    let mut connection = connect::open(file, busy, doing)?;
    // Reads the header, so that a file of another kind is refused here and not by a statement.
    connection
        .pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))
        .map_err(fail)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)
        .map_err(fail)?;
    let flag = cancel.clone();
    let asked = move || flag.asked.load(Ordering::SeqCst);
    connection
        .progress_handler(CANCEL_STEPS, Some(asked))
        .map_err(fail)?;
    let flag = cancel.clone();
    let mut since = Instant::now();
    let waits = move |attempt: i32| {
        if attempt == 0 {
            since = Instant::now();
        }
        let goes_on = since.elapsed() < busy && !flag.asked.load(Ordering::SeqCst);
        if goes_on {
            std::thread::sleep(LOCK_PAUSE);
        }
        goes_on
    };
    connection.busy_handler(Some(waits)).map_err(fail)?;
    let sink = notices.clone();
    connection
        .authorizer(Some(move |asked: rusqlite::hooks::AuthContext<'_>| {
            authorizer::authorize(asked, &mut |notice| {
                let mut kept = lock(&sink);
                if kept.len() < NOTICES_MAX {
                    kept.push(notice);
                }
            })
        }))
        .map_err(fail)?;
    Ok(connection)
}

/// SQLite would take the text to end at a zero byte, and leave the rest out silently.
fn check_text(text: &str, doing: &str) -> Result<()> {
    if text.contains('\0') {
        let detail = "the script has a zero byte".to_owned();
        return Err(EngineError::new(Fault::Invalid { detail }, doing));
    }
    Ok(())
}

/// Runs statements one after the other and counts what was completed.
fn run(connection: &Connection, text: &str, file: &Path) -> Result<Executed, Interrupted> {
    let doing = "run a statement";
    let mut executed = Executed::default();
    let mut completed = 0;
    check_text(text, doing).map_err(|error| Interrupted {
        completed: Some(0),
        error,
    })?;
    let mut batch = Batch::new(connection, text);
    loop {
        let ran = batch.next().and_then(|statement| match statement {
            Some(statement) => step(connection, statement).map(Some),
            None => Ok(None),
        });
        match ran {
            Ok(Some(rows)) => {
                completed += 1;
                executed.rows += rows;
            }
            Ok(None) => return Ok(executed),
            Err(error) => {
                return Err(Interrupted {
                    completed: Some(completed),
                    error: errors::scripting(error, file, text, doing),
                });
            }
        }
    }
}

/// Rows returned or affected.
fn step(connection: &Connection, mut statement: Statement<'_>) -> rusqlite::Result<u64> {
    let before = connection.total_changes();
    let returns = statement.column_count() > 0;
    let mut rows = statement.raw_query();
    let mut returned = 0;
    while rows.next()?.is_some() {
        returned += 1;
    }
    drop(rows);
    let changed = connection.total_changes() != before;
    Ok(match (returns, changed) {
        (true, _) => returned,
        // The count of the last statement that had one stays for those that have none.
        (false, true) => connection.changes(),
        (false, false) => 0,
    })
}

fn rows(
    connection: &Connection,
    statement: &str,
    parameters: &[Option<String>],
) -> rusqlite::Result<Vec<Vec<Option<String>>>> {
    let mut statement = connection.prepare(statement)?;
    let columns = statement.column_count();
    for (at, parameter) in parameters.iter().enumerate() {
        statement.raw_bind_parameter(at + 1, parameter)?;
    }
    let mut rows = statement.raw_query();
    let mut texts = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|at| Ok(text(row.get_ref(at)?)));
        texts.push(values.collect::<rusqlite::Result<_>>()?);
    }
    Ok(texts)
}

/// A value as text: numbers so that they read back the same, bytes as SQLite's literal.
fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(format!("{number:?}")),
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            Some(format!("X'{digits}'"))
        }
    }
}

impl ScriptSession for SqliteSession {
    fn canceller(&self) -> SessionCanceller {
        let cancel = self.cancel.clone();
        SessionCanceller(Arc::new(move || {
            let cancel = cancel.clone();
            Box::pin(async move {
                cancel.asked.store(true, Ordering::SeqCst);
                if let Some(handle) = &*lock(&cancel.handle) {
                    handle.interrupt();
                }
                Ok(())
            })
        }))
    }

    async fn execute(&mut self, statement: &str) -> Result<Executed> {
        self.run(statement)
            .await
            .map_err(|interrupted| interrupted.error)
    }

    async fn execute_batch(&mut self, statements: &str) -> Result<Executed, Interrupted> {
        self.run(statements).await
    }

    async fn copy_in(&mut self, _statement: &str, _data: CopySource<'_>) -> Result<Executed> {
        Err(EngineError::new(
            Fault::Unsupported {
                what: "copy data in: SQLite has no COPY; write INSERT statements".into(),
            },
            "copy data in",
        ))
    }

    async fn query(
        &mut self,
        statement: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Vec<Option<String>>>> {
        let doing = "run a query";
        check_text(statement, doing)?;
        let (statement, file) = (statement.to_owned(), self.file.clone());
        let parameters: Vec<Option<String>> = parameters
            .iter()
            .map(|parameter| parameter.map(str::to_owned))
            .collect();
        self.with(doing, move |connection| {
            rows(connection, &statement, &parameters)
                .map_err(|error| errors::scripting(error, &file, &statement, doing))
        })
        .await
    }

    async fn in_transaction(&mut self) -> Result<bool> {
        self.with("look for an open transaction", |connection| {
            Ok(!connection.is_autocommit())
        })
        .await
    }

    fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut lock(&self.notices))
    }

    /// Opens the file anew, which is the only thing that forgets every pragma. A transaction is rolled
    /// back and temporary tables go with the old connection.
    async fn reset(&mut self) -> Result<()> {
        let doing = "reset the session";
        self.cancel.asked.store(false, Ordering::SeqCst);
        let (file, place, busy) = (self.file.clone(), self.place.clone(), self.busy);
        let (connection, cancel) = (self.connection.clone(), self.cancel.clone());
        let notices = self.notices.clone();
        off_thread(doing, move || {
            let mut connection = lock(&connection);
            if !connection.is_autocommit() {
                connection
                    .execute_batch("ROLLBACK")
                    .map_err(|error| errors::sqlite(error, &file, During::Work, doing))?;
            }
            let found = Place::at(&file, doing)?;
            if !found.is(&place) {
                let what = format!("the file {} that this session opened", file.display());
                return Err(EngineError::new(Fault::Missing { what }, doing));
            }
            let fresh = open(&file, busy, &cancel, &notices)?;
            *lock(&cancel.handle) = Some(fresh.get_interrupt_handle());
            *connection = fresh;
            Ok(())
        })
        .await
    }
}
