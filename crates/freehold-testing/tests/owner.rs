//! Nothing outlives the process that started a throwaway server, however that process ends.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use freehold_testing::postgres::Server;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Another process that owns a server, in a temporary directory of this test's own.
struct Owner {
    process: Child,
    home: PathBuf,
    server: u32,
}

/// A temporary directory that the account of the servers can reach too; in memory, where servers
/// start quickly.
fn reachable_temp() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    reachable(if memory.is_dir() {
        memory
    } else {
        Path::new("/tmp")
    })
}

fn reachable(base: &Path) -> tempfile::TempDir {
    let temp = tempfile::tempdir_in(base).unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
    temp
}

fn command(temp: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throwaway-postgres"));
    command
        .env("TMPDIR", temp)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

fn read_owner(mut process: Child) -> Owner {
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let home = PathBuf::from(lines.next().expect("it prints the directory").unwrap());
    let server = lines
        .next()
        .expect("it prints the process id")
        .unwrap()
        .parse()
        .unwrap();
    // Reading on, so that it can write all it has to say.
    assert!(
        lines
            .next()
            .expect("it prints the URL")
            .unwrap()
            .starts_with("postgres://")
    );
    Owner {
        process,
        home,
        server,
    }
}

fn start(temp: &Path) -> Owner {
    let owner = read_owner(command(temp).spawn().unwrap());
    assert!(runs(owner.server) && owner.home.exists());
    owner
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

fn runs(id: u32) -> bool {
    state(id).is_some_and(|state| state != 'Z')
}

fn state(id: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn parent(id: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    stat.rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "still not true after 30 s: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_owner_takes_server_and_files_with_it() {
    let temp = reachable_temp();
    let mut owner = start(temp.path());
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    eventually("the server is gone", || !runs(owner.server));
    eventually("its files are gone", || !owner.home.exists());
}

#[test]
fn killing_the_owners_whole_process_group_does_not_save_the_server() {
    let temp = reachable_temp();
    let mut owner = start(temp.path());
    kill_process_group(pid(owner.process.id()), Signal::KILL).unwrap();
    owner.process.wait().unwrap();
    eventually("the server is gone", || !runs(owner.server));
    eventually("its files are gone", || !owner.home.exists());
}

#[test]
fn a_killed_supervisor_takes_the_server_with_it_and_the_next_start_sweeps_the_files() {
    let temp = reachable_temp();
    let mut owner = start(temp.path());
    kill_process(pid(parent(owner.server)), Signal::KILL).unwrap();
    eventually("the server is gone", || !runs(owner.server));
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    assert!(owner.home.exists(), "nobody was left to remove the files");
    let mut next = start(temp.path());
    assert!(!owner.home.exists(), "the next start removes them");
    assert!(next.home.exists(), "but not those of a server in use");
    next.process.kill().unwrap();
    next.process.wait().unwrap();
    eventually("the second server is gone too", || {
        !runs(next.server) && !next.home.exists()
    });
}

#[test]
fn a_stopped_server_whose_guards_were_all_killed_is_swept_by_the_next_start() {
    let temp = reachable_temp();
    let mut owner = start(temp.path());
    let supervisor = parent(owner.server);
    kill_process(pid(owner.server), Signal::STOP).unwrap();
    kill_process(pid(supervisor), Signal::KILL).unwrap();
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    assert!(
        runs(owner.server),
        "a stopped process acts on no signal but SIGKILL"
    );
    let mut next = start(temp.path());
    eventually("the next start has killed it", || !runs(owner.server));
    assert!(!owner.home.exists());
    drop(next.process.stdin.take());
    next.process.wait().unwrap();
    assert!(
        !next.home.exists(),
        "an owner that ends by itself leaves nothing either"
    );
}

#[test]
fn a_panicking_test_leaves_nothing() {
    let seen = std::panic::catch_unwind(|| {
        let server = Server::start();
        std::panic::panic_any((server.pid().unwrap(), server.socket_dir().to_owned()));
    });
    let seen = seen.unwrap_err().downcast::<(u32, PathBuf)>().unwrap();
    assert!(!runs(seen.0) && !seen.1.exists());
}

/// A version 99 made of the real programs, whose `initdb` writes a line each time it runs, and
/// blocks as long as a file named `block` exists.
struct Counted {
    temp: tempfile::TempDir,
    /// On a disk, because programs do not everywhere run from memory.
    cache: tempfile::TempDir,
}

impl Counted {
    fn new() -> Self {
        let counted = Self {
            temp: reachable_temp(),
            cache: reachable(Path::new("/tmp")),
        };
        let before = format!(
            "echo ran >>{0}/count; while [ -e {0}/block ]; do sleep 0.01; done",
            counted.temp.path().display()
        );
        counted.script("postgres", "");
        counted.script("initdb", &before);
        counted
    }

    fn script(&self, name: &str, before: &str) {
        let bin = self.cache.path().join("postgresql/99/bin");
        fs::create_dir_all(&bin).unwrap();
        let path = bin.join(name);
        let real = Server::programs(*Server::versions().last().unwrap());
        let text = format!(
            "#!/bin/sh\n{before}\nexec {}/{name} \"$@\"\n",
            real.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn start(&self) -> Child {
        let mut command = command(self.temp.path());
        command
            .arg("99")
            .env("FREEHOLD_TESTING_CACHE", self.cache.path())
            .spawn()
            .unwrap()
    }

    fn runs(&self) -> usize {
        let count = fs::read_to_string(self.temp.path().join("count"));
        count.map_or(0, |text| text.lines().count())
    }
}

#[test]
fn many_processes_make_one_template() {
    let counted = Counted::new();
    let starting: Vec<Child> = (0..4).map(|_| counted.start()).collect();
    for process in starting {
        let mut owner = read_owner(process);
        assert!(runs(owner.server));
        drop(owner.process.stdin.take());
        owner.process.wait().unwrap();
    }
    assert_eq!(counted.runs(), 1);
}

#[test]
fn a_template_that_was_interrupted_is_made_anew() {
    let counted = Counted::new();
    let block = counted.temp.path().join("block");
    fs::write(&block, "").unwrap();
    let mut first = counted.start();
    eventually("initdb runs", || counted.runs() == 1);
    first.kill().unwrap();
    first.wait().unwrap();
    fs::remove_file(block).unwrap();
    let mut owner = read_owner(counted.start());
    assert!(runs(owner.server), "a half-made template is never used");
    assert_eq!(counted.runs(), 2);
    drop(owner.process.stdin.take());
    owner.process.wait().unwrap();
}
