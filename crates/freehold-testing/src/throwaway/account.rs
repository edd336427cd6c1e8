//! Under which operating-system account a server runs. PostgreSQL refuses to run as root, so root
//! runs it as the `postgres` user that Debian's package makes; anybody else runs it as themselves.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Account {
    Ours,
    Postgres { uid: u32, gid: u32 },
}

impl Account {
    pub(crate) fn choose() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::Ours;
        }
        let passwd = fs::read_to_string("/etc/passwd").expect("cannot read /etc/passwd");
        passwd
            .lines()
            .find_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                match fields.as_slice() {
                    ["postgres", _, uid, gid, ..] => Some(Self::Postgres {
                        uid: uid.parse().ok()?,
                        gid: gid.parse().ok()?,
                    }),
                    _ => None,
                }
            })
            .expect(
                "there is no `postgres` user, and a server does not run as root; \
                 `cargo xtask test` (or `cargo xtask install`) installs the package that makes it",
            )
    }

    /// Gives a file or directory that we made to the account.
    pub(crate) fn own(self, path: &Path) {
        if let Self::Postgres { uid, gid } = self {
            chown(path, Some(uid), Some(gid))
                .unwrap_or_else(|error| panic!("cannot give {} away: {error}", path.display()));
        }
    }

    /// The words before a program that make it run under the account and end with its parent.
    /// The signal is sent when the supervising shell dies, however it dies.
    pub(crate) fn prefix(self) -> Vec<String> {
        let mut words = vec!["setpriv".to_owned()];
        if let Self::Postgres { uid, gid } = self {
            words.push(format!("--reuid={uid}"));
            words.push(format!("--regid={gid}"));
            words.push("--clear-groups".to_owned());
        }
        words.push("--pdeathsig=QUIT".to_owned());
        words.push("--".to_owned());
        words
    }

    /// A short-lived command, run to its end under the account.
    pub(crate) fn command(self, program: &Path) -> Command {
        let words = self.prefix();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program).current_dir("/");
        command
    }
}
