//! The product's verbs on real servers, seen from outside: what is asked for, what is there
//! afterwards, what is written down.

mod crowd;
mod drift;
mod engines;
mod explained;
mod faults;
mod first_light;
mod hostile;
mod leaning;
mod lifecycle;
mod migrations;
mod people;
mod plant;
mod rights;
mod servers;
mod stores;
