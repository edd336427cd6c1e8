//! `apply --wait` on what cannot become ready.

use tokio::net::TcpSocket;

use crate::plant::Plant;

#[test]
fn waiting_in_vain_tells_the_reason_while_it_waits_and_at_its_end() {
    let plant = Plant::new();
    let serving = plant.serve("data", &[]);
    // Taken and kept, but nobody listens there and nobody else can.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = taken.local_addr().unwrap().port();
    let platform = plant.platform();
    let there = plant.pg.port().to_string();
    assert!(platform.contains(&there), "{platform}");
    let nowhere = platform.replace(&there, &port.to_string());
    let said = plant.try_apply(&serving, &nowhere, &["--wait", "--timeout", "30"]);
    assert_eq!(said.code(), 6, "{said:?}");
    let (while_waiting, at_its_end) = said.err.split_once("error: ").unwrap();
    for part in [while_waiting, at_its_end] {
        assert!(part.contains("is not ready (Unreachable"), "{}", said.err);
    }
    assert!(
        at_its_end.contains("not everything was ready within 30 s"),
        "{at_its_end}"
    );
    assert!(
        at_its_end.contains("freehold describe instance"),
        "{at_its_end}"
    );
}
