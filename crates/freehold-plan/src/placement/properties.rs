//! What holds of every decision, in worlds made at random.

use freehold_model::kinds::{Capacity, Isolation, Tenancy};
use proptest::prelude::*;

use super::{
    tests::{candidate, name, request, uid, with},
    *,
};

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
        let mut turned = world;
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
