//! `cargo run -p freehold-testing --bin throwaway-mariadb`: a server to try something on.
//!
//! Prints the server's directory, its process id and its URL, one per line, and keeps it until
//! standard input ends.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::io::Read as _;

use freehold_testing::mariadb::Server;

fn main() {
    let server = Server::start();
    println!("{}", server.socket_dir().display());
    println!("{}", server.pid().expect("a started server runs"));
    println!("{}", server.url());
    let mut nothing = Vec::new();
    std::io::stdin()
        .read_to_end(&mut nothing)
        .expect("standard input can be read");
}
