//! `cargo run -p freehold-testing --bin throwaway-redis`: a server to try something on.
//!
//! Prints the server's directory, its process id and its URL, one per line, and keeps it until
//! standard input ends.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::io::Read as _;

use freehold_testing::redis::Server;

fn main() {
    let server = Server::start();
    let admin = server.admin_login();
    println!("{}", server.data_dir().display());
    println!("{}", server.pid().expect("a started server runs"));
    println!(
        "redis://{}:{}@{}:{}/",
        admin.name,
        admin.password,
        server.host(),
        server.port()
    );
    let mut nothing = Vec::new();
    std::io::stdin()
        .read_to_end(&mut nothing)
        .expect("standard input can be read");
}
