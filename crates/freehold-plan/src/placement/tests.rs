use freehold_model::kinds::{Isolation, Tenancy};
use serde_json::json;

use super::*;

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn uid(number: u128) -> Uid {
    format!("{number:032x}").parse().unwrap()
}

pub(super) fn request() -> PlacementRequest {
    PlacementRequest {
        team: name("shop"),
        database: name("orders"),
        uid: Some(uid(1)),
        class_name: name("small"),
        class: serde_json::from_value(json!({"engine": "postgres"})).unwrap(),
        load: DatabaseLoad {
            storage_mib: 1024,
            connections: 10,
            throughput: 0,
        },
        extensions: Vec::new(),
        hints: PlacementHints::default(),
    }
}

pub(super) fn candidate(called: &str) -> Candidate {
    Candidate {
        name: name(called),
        spec: serde_json::from_value(json!({"engine": "postgres", "local": {}})).unwrap(),
        reachable: ConditionStatus::True,
        trouble: None,
        version: Some("15.20".to_owned()),
        extensions: Some(BTreeSet::from(["pgcrypto".to_owned()])),
        deleting: false,
        allocation: Allocation::default(),
    }
}

pub(super) fn with(called: &str, change: impl FnOnce(&mut Candidate)) -> Candidate {
    let mut candidate = candidate(called);
    change(&mut candidate);
    candidate
}

fn holding(called: &str, promises: &[(&str, &str, u64)]) -> Candidate {
    with(called, |it| {
        it.spec.capacity.storage_mib = Some(10_000);
        for (number, (team, database, storage_mib)) in promises.iter().enumerate() {
            let promise = Allocated {
                team: name(team),
                database: name(database),
                load: DatabaseLoad {
                    storage_mib: *storage_mib,
                    ..DatabaseLoad::default()
                },
            };
            it.allocation.add(uid(100 + number as u128), promise);
        }
    })
}

fn chosen(request: &PlacementRequest, candidates: &[Candidate]) -> Option<String> {
    place(request, candidates)
        .chosen
        .map(|name| name.to_string())
}

/// The keys of the reasons that keep the only candidate away.
fn blocked_by(request: &PlacementRequest, candidate: Candidate) -> Vec<&'static str> {
    let decision = place(request, &[candidate]);
    assert_eq!(decision.chosen, None, "{decision:?}");
    decision.ranked[0]
        .reasons
        .iter()
        .map(|reason| reason.key)
        .collect()
}

#[test]
fn each_rule_alone_keeps_a_database_away() {
    let r = request();
    assert_eq!(chosen(&r, &[candidate("pg")]).as_deref(), Some("pg"));
    let cases: [(&str, Candidate); 10] = [
        ("engine", with("pg", |it| it.spec.engine = name("redis"))),
        ("deleting", with("pg", |it| it.deleting = true)),
        (
            "class",
            with("pg", |it| it.spec.classes = vec![name("large")]),
        ),
        (
            "tenancy",
            with("pg", |it| it.spec.tenancy = Tenancy::Dedicated),
        ),
        (
            "team",
            with("pg", |it| it.spec.allowed_teams = vec![name("ledger")]),
        ),
        ("cordon", with("pg", |it| it.spec.cordon = true)),
        (
            "unreachable",
            with("pg", |it| it.reachable = ConditionStatus::False),
        ),
        (
            "unknown",
            with("pg", |it| it.reachable = ConditionStatus::Unknown),
        ),
        (
            "databases",
            with("pg", |it| it.spec.capacity.databases = Some(0)),
        ),
        (
            "connections",
            with("pg", |it| it.spec.capacity.connections = Some(12)),
        ),
    ];
    for (key, candidate) in cases {
        assert_eq!(blocked_by(&r, candidate), [key]);
    }
}

/// A server that answers and is of no use is not called unreachable, and the way out fits.
#[test]
fn what_is_wrong_with_a_server_is_said_as_it_is() {
    for (trouble, key, told, way_out) in [
        (
            "Unreachable",
            "unreachable",
            "cannot be reached now",
            "get its server to answer",
        ),
        (
            "ServerReadOnly",
            "unusable",
            "is read-only now",
            "end the read-only mode",
        ),
        (
            "AdminLacksRight",
            "unusable",
            "lacks a right",
            "give the admin login",
        ),
        (
            "AdminLoginRefused",
            "unusable",
            "refuses Freehold's admin login",
            "correct the admin",
        ),
        (
            "ServerMismatch",
            "unusable",
            "another server than",
            "point it at the server",
        ),
        (
            "SameServer",
            "unusable",
            "the same server as",
            "delete it or point it",
        ),
    ] {
        let candidate = with("pg", |it| {
            it.reachable = ConditionStatus::False;
            it.trouble = Some(trouble.to_owned());
        });
        let request = request();
        let decision = place(&request, &[candidate]);
        let reason = &decision.ranked[0].reasons[0];
        assert_eq!(reason.key, key, "{trouble}");
        assert!(
            reason.message.contains(told),
            "{trouble}: {}",
            reason.message
        );
        let words = decision.way_out.as_ref().expect("a way out").text.as_str();
        assert!(words.contains(way_out), "{trouble}: {words}");
    }
}

#[test]
fn what_the_request_asks_for_keeps_it_away_too() {
    let mut r = request();
    r.hints.instance = Some(name("other"));
    assert_eq!(blocked_by(&r, candidate("pg")), ["instance"]);
    let mut r = request();
    r.extensions = vec!["postgis".to_owned(), "pgcrypto".to_owned()];
    assert_eq!(blocked_by(&r, candidate("pg")), ["extension"]);
    assert_eq!(
        blocked_by(&r, with("pg", |it| it.extensions = None)),
        ["unknown"]
    );
    let mut r = request();
    r.hints.avoid = vec![name("cache")];
    assert_eq!(
        blocked_by(&r, holding("pg", &[("shop", "cache", 1)])),
        ["avoid"]
    );
    // Another team's database of that name is no neighbour.
    assert!(chosen(&r, &[holding("pg", &[("ledger", "cache", 1)])]).is_some());
}

#[test]
fn versions_are_compared_by_their_major_number() {
    let mut r = request();
    r.class.version_min = Some("9".to_owned());
    r.class.version_max = Some("15".to_owned());
    for (version, fits) in [
        ("15.20", true),
        ("15", true),
        ("9.6", true),
        ("16beta1", false),
        ("16.1", false),
        ("8.4", false),
        ("devel", false),
        ("", false),
    ] {
        let candidate = with("pg", |it| it.version = Some(version.to_owned()));
        assert_eq!(chosen(&r, &[candidate]).is_some(), fits, "{version}");
    }
    assert_eq!(
        blocked_by(&r, with("pg", |it| it.version = None)),
        ["unknown"]
    );
}

#[test]
fn a_dedicated_instance_belongs_to_the_first_team() {
    let mut r = request();
    r.class.isolation = Isolation::Dedicated;
    let dedicated = |called: &str, promises: &[(&str, &str, u64)]| {
        let mut it = holding(called, promises);
        it.spec.tenancy = Tenancy::Dedicated;
        it
    };
    assert_eq!(blocked_by(&r, candidate("shared")), ["tenancy"]);
    assert_eq!(
        blocked_by(&r, dedicated("theirs", &[("ledger", "x", 1)])),
        ["tenancy"]
    );
    // Its own one is fuller and still better than claiming another server.
    let empty = dedicated("a-empty", &[]);
    let own = dedicated("own", &[("shop", "x", 5000)]);
    assert_eq!(chosen(&r, &[empty, own]).as_deref(), Some("own"));
    // Its own promise, alone there, does not make it anybody's.
    let mut again = dedicated("again", &[]);
    again.allocation.add(uid(1), r.promise());
    assert!(chosen(&r, &[again]).is_some());
}

#[test]
fn a_verdict_never_names_another_team() {
    let mut r = request();
    r.class.isolation = Isolation::Dedicated;
    let mut theirs = holding("pg", &[("ledger", "payroll", 1)]);
    theirs.spec.tenancy = Tenancy::Dedicated;
    theirs.spec.allowed_teams = vec![name("ledger")];
    let decision = place(&r, &[theirs]);
    let text = format!("{}{}", explain(&decision), decision.summary());
    assert!(
        !text.contains("ledger") && !text.contains("payroll"),
        "{text}"
    );
}

#[test]
fn headroom_is_kept_free_to_the_last_unit() {
    let r = request();
    // 1,280 MiB less 20 % is exactly 1,024.
    let fits = |storage_mib: u64, headroom: Option<u8>| {
        let candidate = with("pg", |it| {
            it.spec.capacity.storage_mib = Some(storage_mib);
            it.spec.capacity.headroom_percent = headroom;
        });
        chosen(&r, &[candidate]).is_some()
    };
    assert!(fits(1280, None));
    assert!(!fits(1279, None));
    assert!(fits(1024, Some(0)));
    assert!(!fits(1023, Some(0)));
    assert!(!fits(u64::MAX, Some(100)));
    assert!(fits(u64::MAX, Some(99)));
}

#[test]
fn sums_beyond_64_bits_do_not_wrap() {
    let full = holding("pg", &[("a", "a", u64::MAX), ("a", "b", u64::MAX)]);
    assert_eq!(blocked_by(&request(), full), ["storage"]);
}

#[test]
fn the_emptiest_wins_unless_a_neighbour_calls() {
    let full = holding("full", &[("shop", "cache", 4000)]);
    let empty = holding("empty", &[("ledger", "x", 100)]);
    let mut r = request();
    let both = [full, empty];
    assert_eq!(chosen(&r, &both).as_deref(), Some("empty"));
    r.hints.near = vec![name("cache")];
    assert_eq!(chosen(&r, &both).as_deref(), Some("full"));
}

#[test]
fn ties_go_to_fewer_databases_and_then_to_the_first_name() {
    let r = request();
    assert_eq!(
        chosen(&r, &[candidate("b"), candidate("a")]).as_deref(),
        Some("a")
    );
    let mut busy = candidate("a");
    busy.allocation.add(uid(7), r.promise());
    assert_eq!(chosen(&r, &[busy, candidate("b")]).as_deref(), Some("b"));
}

#[test]
fn its_own_promise_is_not_counted_against_it() {
    let r = request();
    let mut it = with("pg", |it| it.spec.capacity.databases = Some(1));
    it.allocation.add(uid(1), r.promise());
    assert!(chosen(&r, &[it.clone()]).is_some());
    it.allocation.add(uid(2), r.promise());
    assert!(chosen(&r, &[it]).is_none());
}

#[test]
fn the_way_out_is_the_shortest_and_says_numbers() {
    let r = request();
    let text = |candidates: &[Candidate]| place(&r, candidates).way_out.unwrap().text;
    let cordoned = with("pg-2", |it| it.spec.cordon = true);
    let full = with("pg-1", |it| it.spec.capacity.storage_mib = Some(640));
    assert_eq!(
        text(&[full.clone(), cordoned]),
        "pg-2 would do: lift its cordon (`spec.cordon: false`)"
    );
    assert_eq!(
        text(std::slice::from_ref(&full)),
        "pg-1 would do: raise its `spec.capacity.storageMib` to 1280 (it lacks 512 MiB of storage)"
    );
    let other = with("pg-3", |it| it.spec.classes = vec![name("large")]);
    assert_eq!(
        text(&[other, full]),
        "pg-3 would do: add `small` to its `spec.classes`"
    );
    assert_eq!(
        text(&[]),
        "register an instance of engine postgres, that serves class `small`"
    );
    let redis = with("cache", |it| it.spec.engine = name("redis"));
    assert!(text(&[redis]).starts_with("register an instance of engine postgres"));
}

#[test]
fn an_explanation_reads_as_a_table() {
    let r = request();
    let decision = place(
        &r,
        &[
            holding("pg-1", &[("shop", "cache", 4000)]),
            holding("pg-2", &[]),
            with("pg-3", |it| it.spec.cordon = true),
        ],
    );
    assert_eq!(
        explain(&decision),
        "INSTANCE  VERDICT  SCORE  WHY\n\
         pg-2      chosen     872  leaves 87.2 % of its storage free, its tightest dimension\n\
         pg-1      fits       372  leaves 37.2 % of its storage free, its tightest dimension\n\
         pg-3      no              is cordoned: it takes nothing new\n"
    );
    assert_eq!(
        decision.summary(),
        "pg-2, the best of 2 that fit, out of 3: leaves 87.2 % of its storage free, its tightest \
         dimension"
    );
    assert!(explain(&place(&r, &[])).starts_with("No instance fits. Way out: register"));
}

#[test]
fn a_hundred_rooms_take_exactly_a_hundred() {
    let mut rooms: Vec<Candidate> = [30, 30, 40]
        .into_iter()
        .enumerate()
        .map(|(number, databases)| {
            with(&format!("pg-{number}"), |it| {
                it.spec.capacity.databases = Some(databases);
            })
        })
        .collect();
    let mut placed = 0;
    for number in 0..200 {
        let mut r = request();
        r.uid = Some(uid(1000 + number));
        if let Some(chosen) = place(&r, &rooms).chosen {
            let room = rooms.iter_mut().find(|room| room.name == chosen).unwrap();
            room.allocation.add(uid(1000 + number), r.promise());
            placed += 1;
        }
    }
    assert_eq!(placed, 100);
}
