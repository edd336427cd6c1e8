//! Against real servers: what runs do, what failures leave, and runners as processes.

mod fixture;
mod processes;
mod refusing;
mod running;
