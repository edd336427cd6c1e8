//! A TCP proxy on loopback that a test can break: the network's faults, on demand.
//!
//! It runs on threads of its own, so that it serves blocking and async tests alike, and so that a
//! test that blocks its runtime does not stop the proxy. A fault holds for the connections that
//! exist and for those to come, until the next one is set.
//!
//! It forwards bytes and knows no protocol. Delay is per chunk read (up to 64 KiB), so it models
//! latency of questions and answers rightly and makes bulk transfers slower than a long wire would.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::throwaway::{Area, Port};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    Server,
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Pass,
    Stall,
    Delay(Duration),
    CutAfter(Towards, u64),
}

/// A proxy before one server.
#[derive(Debug)]
pub struct Tcp {
    shared: Arc<Shared>,
    port: Port,
    listening: Mutex<Option<Listening>>,
}

#[derive(Debug)]
struct Listening {
    socket: Arc<TcpListener>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
    accepted: AtomicUsize,
    forwarded: [AtomicU64; 2],
}

#[derive(Debug)]
struct State {
    fault: Fault,
    /// Counts the faults that were set, so that a connection knows when to start counting anew.
    epoch: u64,
    connections: Vec<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    cut: AtomicBool,
}

impl Tcp {
    /// Starts to forward connections to `upstream`.
    pub fn start(upstream: impl ToSocketAddrs) -> Self {
        let upstream = upstream
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .expect("the server's address resolves");
        let state = State {
            fault: Fault::Pass,
            epoch: 0,
            connections: Vec::new(),
        };
        let proxy = Self {
            shared: Arc::new(Shared {
                upstream,
                state: Mutex::new(state),
                changed: Condvar::new(),
                accepted: AtomicUsize::new(0),
                forwarded: [AtomicU64::new(0), AtomicU64::new(0)],
            }),
            port: Area::open().port(),
            listening: Mutex::new(None),
        };
        proxy.listen();
        proxy
    }

    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Forwards everything; also what was held back, and new connections after [`Tcp::refuse`].
    pub fn pass(&self) {
        self.set(Fault::Pass);
        self.listen();
    }

    /// Holds every byte back. Connections stay open and new ones are accepted: a network that
    /// swallows packets. Bytes that are held back are delivered after [`Tcp::pass`].
    pub fn stall(&self) {
        self.set(Fault::Stall);
        self.listen();
    }

    /// Holds every chunk back for a while.
    pub fn delay(&self, by: Duration) {
        self.set(Fault::Delay(by));
        self.listen();
    }

    /// Resets every open connection, at both ends. New ones are forwarded as before.
    pub fn cut(&self) {
        let connections = std::mem::take(&mut self.shared.lock().connections);
        for connection in connections {
            connection.cut();
        }
        self.shared.changed.notify_all();
    }

    /// Lets each connection forward exactly `bytes` more in one direction and then resets it. With
    /// `CutAfter(Towards::Client, 0)` a request arrives and its reply is lost.
    pub fn cut_after(&self, towards: Towards, bytes: u64) {
        self.set(Fault::CutAfter(towards, bytes));
        self.listen();
    }

    /// Resets what is open and refuses new connections, as a machine on which the server does not
    /// run. [`Tcp::pass`] ends it.
    pub fn refuse(&self) {
        self.stop_listening();
        self.cut();
    }

    /// Refuses new connections, as a server that is full; those that are open go on. [`Tcp::pass`] ends it.
    pub fn admit_nobody(&self) {
        self.stop_listening();
    }

    /// How many connections clients have made so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// How many bytes were forwarded in a direction so far, those on their way included.
    pub fn forwarded(&self, towards: Towards) -> u64 {
        self.shared.forwarded[towards as usize].load(Ordering::SeqCst)
    }

    fn set(&self, fault: Fault) {
        let mut state = self.shared.lock();
        state.fault = fault;
        state.epoch += 1;
        drop(state);
        self.shared.changed.notify_all();
    }

    fn listen(&self) {
        let mut listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if listening.is_some() {
            return;
        }
        let socket = TcpListener::bind(("127.0.0.1", self.port.number))
            .unwrap_or_else(|error| panic!("cannot listen on port {}: {error}", self.port.number));
        let socket = Arc::new(socket);
        let (shared, accepting) = (Arc::clone(&self.shared), Arc::clone(&socket));
        let thread = thread::spawn(move || {
            while let Ok((client, _)) = accepting.accept() {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                thread::spawn(move || Shared::serve(&shared, client));
            }
        });
        *listening = Some(Listening { socket, thread });
    }

    fn stop_listening(&self) {
        let listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Listening { socket, thread }) = listening {
            // Wakes the thread out of `accept`, which then fails.
            let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
            drop(socket);
            let _ = thread.join();
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.stop_listening();
        self.set(Fault::Pass);
        self.cut();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to the server and forwards both ways until either end is done.
    fn serve(shared: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(shared.upstream) else {
            reset(&client);
            return;
        };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let connection = Arc::new(Connection {
            client,
            server,
            cut: AtomicBool::new(false),
        });
        shared.lock().connections.push(Arc::clone(&connection));
        let backwards = {
            let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
            thread::spawn(move || shared.pump(&connection, Towards::Client))
        };
        shared.pump(&connection, Towards::Server);
        let _ = backwards.join();
        shared
            .lock()
            .connections
            .retain(|open| !Arc::ptr_eq(open, &connection));
    }

    fn pump(&self, connection: &Connection, towards: Towards) {
        let (mut from, mut to) = match towards {
            Towards::Server => (&connection.client, &connection.server),
            Towards::Client => (&connection.server, &connection.client),
        };
        let mut buffer = vec![0; 65_536];
        let mut counted = Counted::default();
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return connection.cut(),
            };
            let Some(allowed) = self.admit(connection, towards, read, &mut counted) else {
                return connection.cut();
            };
            // Counted first, so that whoever has received a byte finds it counted.
            let allowed_bytes = u64::try_from(allowed).unwrap_or(u64::MAX);
            self.forwarded[towards as usize].fetch_add(allowed_bytes, Ordering::SeqCst);
            if to.write_all(&buffer[..allowed]).is_err() {
                return connection.cut();
            }
            if allowed < read {
                return connection.cut();
            }
        }
        // One side may finish while the other goes on talking.
        if !connection.cut.load(Ordering::SeqCst)
            && self.admit(connection, towards, 0, &mut counted).is_some()
        {
            let _ = to.shutdown(Shutdown::Write);
        }
    }

    /// Waits as the fault demands, and says how many of `read` bytes may pass; fewer than `read`
    /// means that the connection ends after them. `None`: it was cut meanwhile.
    fn admit(
        &self,
        connection: &Connection,
        towards: Towards,
        read: usize,
        counted: &mut Counted,
    ) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if connection.cut.load(Ordering::SeqCst) {
                return None;
            }
            match state.fault {
                Fault::Stall => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Fault::Delay(by) => {
                    drop(state);
                    thread::sleep(by);
                    return (!connection.cut.load(Ordering::SeqCst)).then_some(read);
                }
                Fault::CutAfter(direction, bytes) if direction == towards => {
                    return Some(counted.take(state.epoch, bytes, read));
                }
                Fault::Pass | Fault::CutAfter(..) => return Some(read),
            }
        }
    }
}

/// How much of an allowance a connection has used since the fault was set.
#[derive(Debug, Default)]
struct Counted {
    epoch: u64,
    used: u64,
}

impl Counted {
    fn take(&mut self, epoch: u64, allowance: u64, wanted: usize) -> usize {
        if self.epoch != epoch {
            *self = Self { epoch, used: 0 };
        }
        let left = usize::try_from(allowance - self.used).unwrap_or(usize::MAX);
        let taken = wanted.min(left);
        self.used += u64::try_from(taken).unwrap_or(u64::MAX);
        taken
    }
}

impl Connection {
    /// Resets both ends. The sockets are closed when the last thread lets go of them, which closing
    /// the reading halves makes it do.
    fn cut(&self) {
        if !self.cut.swap(true, Ordering::SeqCst) {
            reset(&self.client);
            reset(&self.server);
        }
    }
}

/// Closing a socket that does not linger sends a reset instead of an orderly end.
fn reset(socket: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Read);
}
