//! `apply --wait` on what cannot become ready.

use std::net::TcpListener;

use crate::plant::Plant;

#[test]
fn waiting_in_vain_tells_the_reason_while_it_waits_and_at_its_end() {
    let plant = Plant::new();
    let serving = plant.serve("data", &[]);
    // Taken and let go, so nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let platform = plant.platform();
    let there = plant.pg.port().to_string();
    assert!(platform.contains(&there), "{platform}");
    let nowhere = platform.replace(&there, &port.to_string());
    let said = plant.try_apply(&serving, &nowhere, &["--wait", "--timeout", "8"]);
    assert_eq!(said.code(), 6, "{said:?}");
    let (while_waiting, at_its_end) = said.err.split_once("error: ").unwrap();
    for part in [while_waiting, at_its_end] {
        assert!(part.contains("is not ready (Unreachable"), "{}", said.err);
    }
    assert!(
        at_its_end.contains("not everything was ready within 8 s"),
        "{at_its_end}"
    );
    assert!(
        at_its_end.contains("freehold describe instance"),
        "{at_its_end}"
    );
}
