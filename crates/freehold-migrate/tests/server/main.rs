//! Against real servers: what runs do, what failures leave, and runners as processes.

mod engines;
mod fixture;
mod processes;
mod refusing;
mod running;
