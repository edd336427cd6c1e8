//! The plan leads to where it should, whatever was seen, and asks for nothing once it is there.

use freehold_model::{ControlPlaneId, Entropy, Name, ServerIdentity, Uid};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    Stamp,
    sqlite::{connect::Place, observe::Part, registry::RegistryRow},
};

#[derive(Debug)]
struct Zeroes;

impl Entropy for Zeroes {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

const MARK: i32 = 77;

fn place(text: &str) -> Place {
    Place::parse(text).expect("a place")
}

fn file(inode: u32, mode: u32) -> Spot {
    Spot::File(Found {
        place: place(&format!("{inode}@5")),
        parts: vec![Part {
            path: "shop.db".into(),
            mode,
            should: FILE_MODE,
            stranger: None,
        }],
        size_bytes: 0,
    })
}

fn seen(state: RowState, place_text: Option<&str>, spots: [Spot; 3]) -> Observed {
    let name = Name::new("shop").expect("a name");
    let [home, quarantine, making] = spots;
    Observed {
        row: RegistryRow {
            name: "shop".into(),
            stamp: Stamp {
                control_plane: ControlPlaneId::generate(Timestamp::UNIX_EPOCH, &Zeroes),
                environment: name.clone(),
                team: name.clone(),
                database: name,
                uid: Uid::generate(Timestamp::UNIX_EPOCH, &Zeroes),
            },
            server: ServerIdentity("one".into()),
            epoch: 1,
            actor: "test".into(),
            state,
            released: false,
            place: place_text.map(place),
            mark: Some(MARK),
        },
        directory_mode: FOLDER_MODE,
        registry_mode: FILE_MODE,
        home,
        quarantine,
        making,
        inside: None,
    }
}

fn goal(open: bool) -> Goal {
    Goal {
        name: "shop".into(),
        folder: Folder::new("shop").expect("a name"),
        open,
    }
}

/// What the effects do to what is there, told in values.
fn apply(seen: &mut Observed, action: &Action) {
    match action {
        Action::RestrictDirectory { .. } => {
            (seen.directory_mode, seen.registry_mode) = (FOLDER_MODE, FILE_MODE);
        }
        Action::Make => {
            seen.making = file(100, FILE_MODE);
            seen.row.place = Some(place("100@5"));
            seen.row.state = RowState::Creating;
        }
        Action::Publish => {
            if seen.home.holds(seen.row.place.as_ref()).is_none() {
                seen.home = std::mem::replace(&mut seen.making, Spot::Empty);
            }
            seen.row.state = RowState::Created;
        }
        Action::Record => {
            let place = [&seen.home, &seen.quarantine]
                .into_iter()
                .find_map(|spot| match spot {
                    Spot::File(found) => Some(found.place.clone()),
                    Spot::Empty | Spot::Other(_) => None,
                });
            seen.row.place = place;
        }
        Action::Close => seen.quarantine = std::mem::replace(&mut seen.home, Spot::Empty),
        Action::Reopen => seen.home = std::mem::replace(&mut seen.quarantine, Spot::Empty),
        Action::Restrict { .. } => {
            for spot in [&mut seen.home, &mut seen.quarantine] {
                if let Spot::File(found) = spot {
                    found
                        .parts
                        .iter_mut()
                        .for_each(|part| part.mode = part.should);
                }
            }
        }
        Action::UseLog { .. } => {
            seen.inside = Some(Inside::Read {
                journal_mode: "wal".into(),
                mark: MARK,
            });
        }
        Action::Report { .. } => {}
    }
}

fn spots() -> impl Strategy<Value = Spot> {
    prop_oneof![
        3 => Just(Spot::Empty),
        1 => Just(Spot::Other("a folder without shop.db".into())),
        3 => (prop_oneof![Just(1_u32), Just(2)], prop_oneof![Just(0o600_u32), Just(0o644)])
            .prop_map(|(inode, mode)| file(inode, mode)),
    ]
}

fn worlds() -> impl Strategy<Value = Observed> {
    let state = prop_oneof![
        Just(RowState::Reserved),
        Just(RowState::Creating),
        Just(RowState::Created)
    ];
    let inside = prop_oneof![Just("wal"), Just("delete")];
    (
        state,
        any::<bool>(),
        [spots(), spots(), spots()],
        inside,
        any::<bool>(),
    )
        .prop_map(|(state, placed, spots, journal_mode, open)| {
            let place = (placed && state != RowState::Reserved).then_some("1@5");
            let mut seen = seen(state, place, spots);
            seen.directory_mode = if open { 0o755 } else { FOLDER_MODE };
            seen.inside = Some(Inside::Read {
                journal_mode: journal_mode.into(),
                mark: MARK,
            });
            seen
        })
}

proptest! {
    #[test]
    fn applying_a_plan_leaves_nothing_to_do(mut seen in worlds(), open: bool) {
        let goal = goal(open);
        let begun = seen.clone();
        let Ok(mut actions) = plan(&goal, &seen) else {
            return Ok(());
        };
        for _ in 0..4 {
            for action in &actions {
                apply(&mut seen, action);
            }
            let Ok(next) = plan(&goal, &seen) else {
                prop_assert!(false, "{begun:?} led to {seen:?}");
                return Ok(());
            };
            actions = next;
        }
        prop_assert!(actions.iter().all(|action| !action.is_actionable()), "{:?}", actions);
        if seen.row.state == RowState::Created {
            let ours = if open { &seen.home } else { &seen.quarantine };
            prop_assert!(ours.holds(seen.row.place.as_ref()).is_some(), "{:?}", seen);
        }
    }

    #[test]
    fn what_was_made_is_never_made_again(seen in worlds(), open: bool) {
        if seen.row.state == RowState::Created
            && let Ok(actions) = plan(&goal(open), &seen)
        {
            prop_assert!(!actions.contains(&Action::Make));
            prop_assert!(!actions.contains(&Action::Publish));
        }
    }

    #[test]
    fn what_is_not_ours_is_never_moved(seen in worlds(), open: bool) {
        let ours = seen.row.place.clone();
        let Ok(actions) = plan(&goal(open), &seen) else {
            return Ok(());
        };
        if actions.contains(&Action::Close) {
            prop_assert!(seen.home.holds(ours.as_ref()).is_some() && seen.quarantine.is_empty());
        }
        if actions.contains(&Action::Reopen) {
            prop_assert!(seen.quarantine.holds(ours.as_ref()).is_some() && seen.home.is_empty());
        }
        if actions.contains(&Action::Make) {
            prop_assert!(seen.home.is_empty() && seen.quarantine.is_empty());
        }
    }
}

#[test]
fn a_replaced_file_is_missing_and_a_restored_one_is_recorded_when_a_person_says_so() {
    let spots = || [file(2, FILE_MODE), Spot::Empty, Spot::Empty];
    let replaced = seen(RowState::Created, Some("1@5"), spots());
    let error = plan(&goal(true), &replaced).expect_err("another file");
    assert!(matches!(error.fault, Fault::Missing { .. }), "{error}");
    let said = seen(RowState::Created, None, spots());
    assert_eq!(plan(&goal(true), &said).expect("planned"), [Action::Record]);
}
