use freehold_model::kinds::{Capacity, Isolation, Tenancy};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn uid(number: u128) -> Uid {
    format!("{number:032x}").parse().unwrap()
}

fn request() -> PlacementRequest {
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

fn candidate(called: &str) -> Candidate {
    Candidate {
        name: name(called),
        spec: serde_json::from_value(json!({"engine": "postgres", "local": {}})).unwrap(),
        reachable: ConditionStatus::True,
        version: Some("15.20".to_owned()),
        extensions: Some(BTreeSet::from(["pgcrypto".to_owned()])),
        deleting: false,
        allocation: Allocation::default(),
    }
}

fn with(called: &str, change: impl FnOnce(&mut Candidate)) -> Candidate {
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
                it.spec.capacity.databases = Some(databases)
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

fn small_names() -> impl Strategy<Value = Name> {
    prop_oneof![Just("a"), Just("b"), Just("shop"), Just("orders")].prop_map(name)
}

/// Mostly none, so that most worlds have room.
fn few() -> impl Strategy<Value = Vec<Name>> {
    prop_oneof![9 => Just(Vec::new()), 1 => prop::collection::vec(small_names(), 1..3)]
}

fn loads() -> impl Strategy<Value = DatabaseLoad> {
    let amount = prop_oneof![60 => 0u32..10, 1 => Just(u32::MAX)];
    let storage = prop_oneof![60 => 0u64..10, 1 => Just(u64::MAX)];
    (storage, amount.clone(), amount).prop_map(|(storage_mib, connections, throughput)| {
        DatabaseLoad {
            storage_mib,
            connections,
            throughput,
        }
    })
}

fn capacities() -> impl Strategy<Value = Capacity> {
    let amount = || prop::option::of(prop_oneof![10u32..400, 0u32..20, Just(u32::MAX)]);
    let storage = prop::option::of(prop_oneof![10u64..400, 0u64..20, Just(u64::MAX)]);
    let headroom = prop_oneof![4 => Just(None), 3 => (0u8..60).prop_map(Some), 1 => (90u8..=100).prop_map(Some)];
    (amount(), storage, amount(), amount(), headroom).prop_map(
        |(databases, storage_mib, connections, throughput, headroom_percent)| Capacity {
            databases: databases.map(|n| n.min(6)),
            storage_mib,
            connections,
            throughput,
            headroom_percent,
        },
    )
}

fn extensions() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(
        prop_oneof![Just("x".to_owned()), Just("y".to_owned())],
        0..2,
    )
}

fn versions() -> impl Strategy<Value = Option<String>> {
    prop::option::of((13u32..18).prop_map(|major| major.to_string()))
}

prop_compose! {
    fn requests()(
        (team, database, class_name) in (small_names(), small_names(), small_names()),
        load in loads(),
        dedicated in prop::bool::weighted(0.15),
        (version_min, version_max) in (versions(), versions()),
        extensions in extensions(),
        (near, avoid) in (prop::collection::vec(small_names(), 0..2), few()),
        instance in prop::option::weighted(0.1, "[p-r]".prop_map(|text| name(&text))),
    ) -> PlacementRequest {
        let mut request = request();
        (request.team, request.database, request.class_name) = (team, database, class_name);
        request.load = load;
        if dedicated {
            request.class.isolation = Isolation::Dedicated;
        }
        // Validation has seen to it that the range is not empty.
        let ordered = match (&version_min, &version_max) {
            (Some(min), Some(max)) => min <= max,
            _ => true,
        };
        if ordered {
            (request.class.version_min, request.class.version_max) = (version_min, version_max);
        }
        request.extensions = extensions;
        request.hints = PlacementHints { near, avoid, instance };
        request
    }
}

prop_compose! {
    fn candidates_one(called: &'static str)(
        capacity in capacities(),
        (classes, teams) in (few(), few()),
        (dedicated, cordon, deleting, redis) in (
            prop::bool::weighted(0.15),
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.03),
            prop::bool::weighted(0.03),
        ),
        reachable in prop_oneof![
            20 => Just(ConditionStatus::True),
            1 => Just(ConditionStatus::False),
            1 => Just(ConditionStatus::Unknown),
        ],
        version in prop::option::weighted(0.95, (13u32..18).prop_map(|major| format!("{major}.1"))),
        available in prop_oneof![
            4 => Just(Some(vec!["x".to_owned(), "y".to_owned()])),
            1 => extensions().prop_map(Some),
            1 => Just(None),
        ],
        promises in prop::collection::vec((1u128..6, small_names(), small_names(), loads()), 0..4),
    ) -> Candidate {
        with(called, |it| {
            it.spec.capacity = capacity;
            (it.spec.classes, it.spec.allowed_teams) = (classes, teams);
            (it.spec.cordon, it.deleting) = (cordon, deleting);
            it.reachable = reachable;
            it.version = version;
            it.extensions = available.map(|it| it.into_iter().collect());
            if dedicated {
                it.spec.tenancy = Tenancy::Dedicated;
            }
            if redis {
                it.spec.engine = name("redis");
            }
            for (number, team, database, load) in promises {
                it.allocation.add(uid(number), Allocated { team, database, load });
            }
        })
    }
}

fn worlds() -> impl Strategy<Value = Vec<Candidate>> {
    let three = (
        candidates_one("p"),
        candidates_one("q"),
        candidates_one("r"),
    );
    (three, prop_oneof![1 => Just(0usize), 12 => 1usize..=3]).prop_map(|((p, q, r), count)| {
        let mut all = vec![p, q, r];
        all.truncate(count);
        all
    })
}

/// The properties below say something only while their worlds are neither all full nor all empty.
#[test]
fn the_worlds_of_the_property_tests_are_mixed() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut placed = 0;
    for _ in 0..300 {
        let strategy = (requests(), worlds());
        let (request, world) = strategy.new_tree(&mut runner).unwrap().current();
        placed += usize::from(place(&request, &world).chosen.is_some());
    }
    assert!((60..240).contains(&placed), "{placed} of 300 found a place");
}

/// Does what the remedies say, and nothing else.
fn follow(remedies: &[Remedy], request: &mut PlacementRequest, world: &mut Vec<Candidate>) {
    for remedy in remedies {
        let mut change = |instance: &Name, change: &dyn Fn(&mut Candidate)| {
            change(world.iter_mut().find(|it| it.name == *instance).unwrap());
        };
        match remedy {
            Remedy::LiftCordon { instance } => change(instance, &|it| it.spec.cordon = false),
            Remedy::AddClass { instance, class } => {
                change(instance, &|it| it.spec.classes.push(class.clone()));
            }
            Remedy::AllowTeam { instance, team } => {
                change(instance, &|it| it.spec.allowed_teams.push(team.clone()));
            }
            Remedy::DropInstanceHint => request.hints.instance = None,
            Remedy::DropAvoid { databases } => {
                request
                    .hints
                    .avoid
                    .retain(|it| !databases.contains(&it.to_string()));
            }
            Remedy::RaiseCapacity {
                instance,
                dimension,
                to,
            } => change(instance, &|it| {
                let capacity = &mut it.spec.capacity;
                let small = u32::try_from(*to).ok();
                match dimension {
                    Dimension::Databases => capacity.databases = Some(small.unwrap()),
                    Dimension::Storage => capacity.storage_mib = Some(*to),
                    Dimension::Connections => capacity.connections = Some(small.unwrap()),
                    Dimension::Throughput => capacity.throughput = Some(small.unwrap()),
                }
            }),
            // The server answers and turns out to be what is needed.
            Remedy::Reach { instance } => {
                let class = &request.class;
                let version = class
                    .version_min
                    .clone()
                    .or_else(|| class.version_max.clone());
                let wanted: BTreeSet<String> = request.extensions.iter().cloned().collect();
                change(instance, &|it| {
                    it.reachable = ConditionStatus::True;
                    it.version = it.version.take().or_else(|| version.clone());
                    it.extensions = it.extensions.take().or_else(|| Some(wanted.clone()));
                });
            }
            Remedy::InstallExtensions {
                instance,
                extensions,
            } => change(instance, &|it| {
                it.extensions
                    .get_or_insert_default()
                    .extend(extensions.iter().cloned());
            }),
            Remedy::Register {
                engine,
                name: called,
                dedicated,
                version,
            } => {
                let called = called.clone().unwrap_or_else(|| name("new"));
                let mut new = candidate(called.as_str());
                new.spec.engine = engine.clone();
                if *dedicated {
                    new.spec.tenancy = Tenancy::Dedicated;
                }
                new.version = version
                    .as_ref()
                    .map(|range| range.split(' ').next().unwrap().to_owned())
                    .or(Some("15".to_owned()));
                new.extensions = Some(request.extensions.iter().cloned().collect());
                world.push(new);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_decision_is_right_in_every_world(request in requests(), world in worlds()) {
        let decision = place(&request, &world);
        prop_assert_eq!(decision.ranked.len(), world.len());
        prop_assert_eq!(decision.chosen.is_none(), decision.way_out.is_some());
        prop_assert!(decision.ranked.iter().all(|verdict| !verdict.reasons.is_empty()));
        for verdict in &decision.ranked {
            let blocking = verdict.reasons.iter().any(|reason| reason.blocks);
            prop_assert_eq!(verdict.fits, !blocking);
        }
        if let Some(chosen) = &decision.chosen {
            let best = decision.ranked.iter().filter(|it| it.fits).map(|it| it.score).max();
            let taken = decision.ranked.iter().find(|it| it.instance == *chosen).unwrap();
            prop_assert!(taken.fits && Some(taken.score) == best);
        }
    }

    #[test]
    fn nothing_is_ever_promised_twice(request in requests(), world in worlds()) {
        let decision = place(&request, &world);
        let Some(chosen) = decision.chosen else {
            return Ok(());
        };
        let mut it = world.into_iter().find(|it| it.name == chosen).unwrap();
        it.allocation.add(uid(1), request.promise());
        let totals = it.allocation.totals();
        let capacity = &it.spec.capacity;
        // Written out in floating point and by hand, to be another road to the same truth.
        let share = f64::from(100 - capacity.headroom_percent.unwrap_or(20)) / 100.0;
        let within = |promised: u128, asked: u64, limit: Option<f64>| {
            asked == 0 || limit.is_none_or(|limit| promised as f64 <= limit + 1e-6 * limit)
        };
        let load = request.load;
        prop_assert!(capacity.databases.is_none_or(|max| totals.databases <= u64::from(max)));
        prop_assert!(within(
            totals.storage_mib, load.storage_mib, capacity.storage_mib.map(|n| n as f64 * share)
        ));
        prop_assert!(within(
            totals.connections, load.connections.into(), capacity.connections.map(|n| f64::from(n) * share)
        ));
        prop_assert!(within(
            totals.throughput, load.throughput.into(), capacity.throughput.map(|n| f64::from(n) * share)
        ));
        if it.spec.tenancy == Tenancy::Dedicated {
            let teams: BTreeSet<_> = it.allocation.databases.values().map(|p| &p.team).collect();
            prop_assert_eq!(teams.len(), 1);
        }
    }

    #[test]
    fn the_order_of_candidates_does_not_matter(request in requests(), world in worlds()) {
        let decision = place(&request, &world);
        let mut turned = world.clone();
        turned.reverse();
        prop_assert_eq!(&place(&request, &turned), &decision);
        if turned.len() > 1 {
            turned.swap(0, 1);
            prop_assert_eq!(&place(&request, &turned), &decision);
        }
    }

    #[test]
    fn an_instance_that_was_not_chosen_does_not_matter(request in requests(), world in worlds()) {
        let chosen = place(&request, &world).chosen;
        if chosen.is_none() {
            return Ok(());
        }
        for out in 0..world.len() {
            let mut rest = world.clone();
            if Some(&rest.remove(out).name) != chosen.as_ref() {
                prop_assert_eq!(&place(&request, &rest).chosen, &chosen);
            }
        }
    }

    #[test]
    fn following_the_way_out_places_the_database(request in requests(), world in worlds()) {
        let decision = place(&request, &world);
        let Some(way_out) = decision.way_out else {
            return Ok(());
        };
        prop_assert!(!way_out.remedies.is_empty() && !way_out.text.is_empty());
        let (mut request, mut world) = (request, world);
        follow(&way_out.remedies, &mut request, &mut world);
        let after = place(&request, &world);
        prop_assert!(after.chosen.is_some(), "{:?}\n{}", way_out, explain(&after));
    }
}
