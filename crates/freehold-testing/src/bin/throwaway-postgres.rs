//! `cargo run -p freehold-testing --bin throwaway-postgres [MAJOR]`: a server to try something on.
//!
//! Prints the server's directory, its process id and its URL, one per line, and keeps it until
//! standard input ends. This crate's tests kill it in every way they can think of.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::io::Read as _;

use freehold_testing::postgres::Server;

fn main() {
    let server = match std::env::args().nth(1) {
        Some(major) => Server::start_version(major.parse().expect("a major version is a number")),
        None => Server::start(),
    };
    println!("{}", server.socket_dir().display());
    println!("{}", server.pid().expect("a started server runs"));
    println!("{}", server.url("postgres"));
    let mut nothing = Vec::new();
    std::io::stdin()
        .read_to_end(&mut nothing)
        .expect("standard input can be read");
}
