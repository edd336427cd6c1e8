//! The proxy's faults are what a client of a broken network sees.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use freehold_testing::proxy::{Tcp, Towards};

/// A server that sends back what it gets, and remembers nothing.
fn echo() -> TcpListenerGuard {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    TcpListenerGuard { port }
}

struct TcpListenerGuard {
    port: u16,
}

fn client(proxy: &Tcp) -> TcpStream {
    let stream = TcpStream::connect((proxy.host(), proxy.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

fn ask(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).unwrap();
    let mut reply = vec![0; text.len()];
    stream.read_exact(&mut reply).unwrap();
    reply
}

#[test]
fn passes_everything_by_default_and_counts_it() {
    let server = echo();
    let proxy = Tcp::start(("127.0.0.1", server.port));
    let mut stream = client(&proxy);
    assert_eq!(ask(&mut stream, b"hello"), b"hello");
    assert_eq!(proxy.accepted(), 1);
    assert_eq!(proxy.open(), 1);
    assert_eq!(proxy.forwarded(Towards::Server), 5);
    assert_eq!(proxy.forwarded(Towards::Client), 5);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(
        stream.read(&mut [0; 1]).unwrap(),
        0,
        "an orderly end is forwarded as one"
    );
}

#[test]
fn a_stalled_connection_is_silent_and_goes_on_afterwards() {
    let server = echo();
    let proxy = Tcp::start(("127.0.0.1", server.port));
    let mut stream = client(&proxy);
    proxy.stall();
    stream.write_all(b"late").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let error = stream.read(&mut [0; 4]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    assert_eq!(proxy.forwarded(Towards::Server), 0);
    proxy.pass();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"late");
}

#[test]
fn cut_resets_open_connections_and_lets_new_ones_in() {
    let server = echo();
    let proxy = Tcp::start(("127.0.0.1", server.port));
    let mut stream = client(&proxy);
    ask(&mut stream, b"up");
    proxy.cut();
    assert_eq!(
        stream.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(ask(&mut client(&proxy), b"again"), b"again");
}

#[test]
fn cut_ends_a_stalled_connection_too() {
    let server = echo();
    let proxy = Tcp::start(("127.0.0.1", server.port));
    let mut stream = client(&proxy);
    ask(&mut stream, b"up");
    proxy.stall();
    stream.write_all(b"held back").unwrap();
    proxy.cut();
    assert_eq!(
        stream.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        proxy.forwarded(Towards::Server),
        2,
        "what was held back is lost"
    );
}

#[test]
fn refuse_is_a_port_on_which_nobody_listens() {
    let server = echo();
    let proxy = Tcp::start(("127.0.0.1", server.port));
    let mut stream = client(&proxy);
    ask(&mut stream, b"up");
    proxy.refuse();
    assert!(stream.read(&mut [0; 1]).is_err());
    let error = TcpStream::connect((proxy.host(), proxy.port())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    proxy.pass();
    assert_eq!(ask(&mut client(&proxy), b"back"), b"back");
}

#[test]
fn delay_holds_every_answer_back_both_ways() {
    let server = echo();
    let proxy = Tcp::start(("127.0.0.1", server.port));
    let mut stream = client(&proxy);
    proxy.delay(Duration::from_millis(40));
    let start = Instant::now();
    ask(&mut stream, b"slow");
    assert!(
        start.elapsed() >= Duration::from_millis(80),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn cut_after_counts_bytes_in_the_direction_that_was_named() {
    let server = echo();
    let proxy = Tcp::start(("127.0.0.1", server.port));
    let mut stream = client(&proxy);
    ask(&mut stream, b"before");
    proxy.cut_after(Towards::Client, 3);
    stream.write_all(b"abcdef").unwrap();
    let mut reply = [0; 3];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"abc");
    assert_eq!(
        stream.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        proxy.forwarded(Towards::Server),
        12,
        "the request arrived whole"
    );

    proxy.cut_after(Towards::Server, 2);
    let mut stream = client(&proxy);
    stream.write_all(b"abcdef").unwrap();
    let mut seen = Vec::new();
    let _ = stream.read_to_end(&mut seen);
    assert!(
        b"ab".starts_with(&seen),
        "at most two bytes came back: {seen:?}"
    );
    assert_eq!(
        proxy.forwarded(Towards::Server),
        14,
        "exactly two bytes of the request arrived"
    );
}
