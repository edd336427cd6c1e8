use freehold_model::{Kind, Metadata, Name, Uid, kinds::Database};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn resource(kind: Kind, spec: Value) -> Resource {
    let mut metadata = Metadata::named(name("orders"));
    metadata.environment = Some(name("dev"));
    metadata.namespace = Some(name("shop"));
    Resource {
        api_version: freehold_model::API_VERSION.to_owned(),
        kind,
        metadata,
        spec,
        status: None,
    }
}

fn database(spec: Value) -> Resource {
    resource(Kind::Database, spec)
}

/// Applies and asserts that it was let through.
fn apply(live: Option<&Resource>, manifest: &Resource, manager: &str) -> Merged {
    merge(live, manifest, manager, false).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn conflicts_of(result: Result<Merged, Refusal>) -> Vec<FieldConflict> {
    match result {
        Err(Refusal::Conflicts(conflicts)) => conflicts,
        other => panic!("{other:?}"),
    }
}

fn changed(paths: &[&str]) -> Outcome {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Outcome::Changed { paths }
}

#[test]
fn the_first_apply_creates_and_the_same_again_changes_nothing() {
    let manifest = database(json!({"class": "small", "load": {"storageMib": 1}}));
    let first = apply(None, &manifest, "cli");
    assert_eq!(first.outcome, Outcome::Created);
    assert_eq!(first.resource.metadata.generation, 1);
    assert_eq!(
        first.resource.metadata.managed_fields["cli"],
        ["/spec/class", "/spec/load/storageMib"]
    );
    // Another order of fields and a null instead of an absent field are no change.
    let same = database(json!({"load": {"connections": null, "storageMib": 1}, "class": "small"}));
    let second = apply(Some(&first.resource), &same, "cli");
    assert_eq!(second.outcome, Outcome::Unchanged);
    assert!(!second.write);
    assert_eq!(second.resource, first.resource);
}

#[test]
fn a_change_names_its_paths_and_counts_a_generation() {
    let live = apply(None, &database(json!({"class": "small"})), "cli").resource;
    let manifest = database(json!({"class": "large", "schemas": ["a"]}));
    let merged = apply(Some(&live), &manifest, "cli");
    assert_eq!(merged.outcome, changed(&["/spec/class", "/spec/schemas"]));
    assert_eq!(merged.resource.metadata.generation, 2);
}

#[test]
fn labels_change_without_a_generation() {
    let live = apply(None, &database(json!({"class": "small"})), "cli").resource;
    let mut manifest = database(json!({"class": "small"}));
    manifest
        .metadata
        .labels
        .insert("a/b".to_owned(), "1".to_owned());
    let merged = apply(Some(&live), &manifest, "cli");
    assert_eq!(merged.outcome, changed(&["/metadata/labels/a~1b"]));
    assert_eq!(merged.resource.metadata.generation, 1);
    let back = apply(
        Some(&merged.resource),
        &database(json!({"class": "small"})),
        "cli",
    );
    assert!(back.resource.metadata.labels.is_empty());
}

#[test]
fn a_field_that_its_manager_drops_is_removed_and_its_empty_parents_too() {
    let manifest = database(json!({
        "class": "small", "placement": {"near": ["a"]}, "load": {"storageMib": 1, "connections": 2}
    }));
    let live = apply(None, &manifest, "cli").resource;
    let manifest = database(json!({"class": "small", "load": {"storageMib": 1}}));
    let merged = apply(Some(&live), &manifest, "cli");
    assert_eq!(
        merged.resource.spec,
        json!({"class": "small", "load": {"storageMib": 1}})
    );
}

#[test]
fn a_dropped_field_stays_while_another_manager_states_it() {
    let both = database(json!({"class": "small", "schemas": ["a"]}));
    let live = apply(None, &both, "cli").resource;
    let live = apply(Some(&live), &both, "ci");
    assert_eq!(live.outcome, Outcome::Unchanged);
    assert!(live.write, "who owns it has changed");
    let without = database(json!({"class": "small"}));
    let kept = apply(Some(&live.resource), &without, "cli");
    assert_eq!(kept.outcome, Outcome::Unchanged);
    let gone = apply(Some(&kept.resource), &without, "ci");
    assert_eq!(gone.outcome, changed(&["/spec/schemas"]));
}

#[test]
fn two_managers_who_disagree_conflict_and_force_settles_it() {
    let live = apply(None, &database(json!({"class": "small"})), "cli").resource;
    let manifest = database(json!({"class": "large"}));
    let refusal = merge(Some(&live), &manifest, "ci", false).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "spec.class is owned by `cli`, which says \"small\"; this manifest says \"large\""
    );
    let error = freehold_model::Error::from(refusal);
    assert!(
        error
            .hint
            .is_some_and(|hint| hint.contains("--force") && hint.contains("cli"))
    );

    let forced = merge(Some(&live), &manifest, "ci", true).unwrap();
    assert_eq!(forced.resource.spec["class"], "large");
    let owners = &forced.resource.metadata.managed_fields;
    assert!(!owners.contains_key("cli"), "{owners:?}");
    // Now the first one is the stranger.
    let again = merge(
        Some(&forced.resource),
        &database(json!({"class": "small"})),
        "cli",
        false,
    );
    assert_eq!(conflicts_of(again)[0].manager, "ci");
}

#[test]
fn a_field_that_nobody_owns_is_free_to_take() {
    let mut live = apply(None, &database(json!({"class": "small"})), "cli").resource;
    live.metadata.managed_fields.clear();
    let merged = apply(Some(&live), &database(json!({"class": "large"})), "ci");
    assert_eq!(merged.resource.spec["class"], "large");
}

#[test]
fn lists_are_atomic() {
    let live = apply(
        None,
        &database(json!({"class": "s", "schemas": ["a"]})),
        "cli",
    )
    .resource;
    let longer = database(json!({"schemas": ["a", "b"]}));
    assert_eq!(
        conflicts_of(merge(Some(&live), &longer, "ci", false))[0].pointer,
        "/spec/schemas"
    );
}

#[test]
fn an_empty_mapping_says_only_that_it_is_there() {
    let instance = |spec| resource(Kind::Instance, spec);
    let live = apply(
        None,
        &instance(json!({"engine": "postgres", "local": {}})),
        "cli",
    )
    .resource;
    assert_eq!(live.spec["local"], json!({}));
    let same = instance(json!({"engine": "postgres", "local": {}, "capacity": {"databases": 5}}));
    let live = apply(Some(&live), &same, "ci").resource;
    // The first one leaves: what the second one states stays.
    let live = apply(Some(&live), &instance(json!({"engine": "postgres"})), "cli").resource;
    assert_eq!(
        live.spec,
        json!({"engine": "postgres", "local": {}, "capacity": {"databases": 5}})
    );
}

#[test]
fn what_the_server_wrote_stays() {
    let mut live = apply(None, &database(json!({"class": "small"})), "cli").resource;
    live.status = Some(json!({"databaseName": "x"}));
    live.metadata.uid = Some(uid(1));
    live.metadata.resource_version = "7".to_owned();
    live.metadata
        .labels
        .insert("apply-set.freehold.dev/dev".to_owned(), "set".to_owned());
    let mut manifest = database(json!({"class": "large"}));
    manifest.metadata.uid = Some(uid(2));
    manifest.status = Some(json!({}));
    let merged = apply(Some(&live), &manifest, "cli").resource;
    assert_eq!(merged.status, live.status);
    assert_eq!(merged.metadata.uid, live.metadata.uid);
    assert_eq!(merged.metadata.labels, live.metadata.labels);
    // Nor can a manifest smuggle a label of Freehold's in.
    manifest
        .metadata
        .labels
        .insert("apply-set.freehold.dev/dev".to_owned(), "mine".to_owned());
    let merged = apply(Some(&live), &manifest, "cli").resource;
    assert_eq!(merged.metadata.labels, live.metadata.labels);
    assert!(
        apply(None, &manifest, "cli")
            .resource
            .metadata
            .labels
            .is_empty()
    );
}

#[test]
fn an_immutable_field_says_what_to_do_instead_even_with_force() {
    let external = |host: &str| {
        resource(
            Kind::Instance,
            json!({"engine": "postgres", "external": {"host": host, "username": "a"}}),
        )
    };
    let live = apply(None, &external("one"), "cli").resource;
    for force in [false, true] {
        match merge(Some(&live), &external("two"), "cli", force) {
            Err(Refusal::Immutable(changes)) => {
                assert_eq!(changes[0].pointer, "/spec/external/host");
                assert!(changes[0].instead.contains("new name"));
            }
            other => panic!("{other:?}"),
        }
    }
    let local = resource(Kind::Instance, json!({"engine": "postgres", "local": {}}));
    let refusal = merge(Some(&live), &local, "cli", true).unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("from spec.external to spec.local"),
        "{refusal}"
    );
}

#[test]
fn spelling_out_a_default_is_no_change_of_an_immutable_field() {
    let class = |spec| resource(Kind::Class, spec);
    let live = apply(None, &class(json!({"engine": "postgres"})), "cli").resource;
    let spelled = class(json!({"engine": "postgres", "isolation": "shared"}));
    let live = apply(Some(&live), &spelled, "cli").resource;
    assert!(
        merge(
            Some(&live),
            &class(json!({"engine": "postgres"})),
            "cli",
            false
        )
        .is_ok()
    );
    let other = class(json!({"engine": "postgres", "isolation": "dedicated"}));
    assert!(merge(Some(&live), &other, "cli", false).is_err());

    let access = |subject| {
        resource(
            Kind::Access,
            json!({"database": "d", "subject": subject, "level": "readOnly"}),
        )
    };
    let live = apply(None, &access(json!({"workload": "w"})), "cli").resource;
    let own = access(json!({"workload": "w", "team": "shop"}));
    assert!(merge(Some(&live), &own, "cli", false).is_ok());
    let foreign = access(json!({"workload": "w", "team": "ledger"}));
    assert!(merge(Some(&live), &foreign, "cli", false).is_err());
}

#[test]
fn a_database_changes_class_only_within_engine_and_isolation() {
    let class = |value: Value| serde_json::from_value(value).unwrap();
    let shared = class(json!({"engine": "postgres"}));
    let dedicated = class(json!({"engine": "postgres", "isolation": "dedicated"}));
    let other = class(json!({"engine": "redis"}));
    let (a, b) = (name("a"), name("b"));
    assert!(check_class_change((&a, &shared), (&b, &shared)).is_ok());
    assert!(check_class_change((&a, &dedicated), (&b, &shared)).is_ok());
    let refused = check_class_change((&a, &shared), (&b, &dedicated)).unwrap_err();
    assert!(refused.to_string().contains("dedicated"));
    let refused = check_class_change((&a, &shared), (&b, &other)).unwrap_err();
    assert!(refused.to_string().contains("move"));
}

#[test]
fn a_diff_shows_what_people_wrote_and_nothing_else() {
    let live = apply(None, &database(json!({"class": "small"})), "cli").resource;
    let manifest = database(json!({"schemas": ["a"], "class": "large"}));
    let merged = apply(Some(&live), &manifest, "cli").resource;
    let diff = diff(Some(&live), Some(&merged));
    let text = diff.text;
    assert!(
        text.contains("-  class: small\n+  class: large\n+  schemas:\n+    - a\n"),
        "{text}"
    );
    assert!(
        !text.contains("managedFields") && !text.contains("generation"),
        "{text}"
    );
    assert_eq!(diff.changes.len(), 2);
    assert_eq!(super::diff(Some(&live), Some(&live)).text, "");
    assert!(
        super::diff(None, Some(&live))
            .text
            .contains("+kind: Database")
    );
    assert!(
        super::diff(Some(&live), None)
            .text
            .contains("-kind: Database")
    );
}

fn uid(number: u128) -> Uid {
    format!("{number:032x}").parse().unwrap()
}

fn typed(access: &Value) -> Database {
    let untyped = database(json!({"class": "small", "access": access}));
    Database {
        api_version: untyped.api_version,
        kind: untyped.kind,
        metadata: untyped.metadata,
        spec: serde_json::from_value(untyped.spec).unwrap(),
        status: None,
    }
}

#[test]
fn inline_accesses_become_accesses_and_stay_what_they_are() {
    let database = typed(&json!([{"workload": "api", "level": "readWrite"}]));
    let made = expand(&database, uid(1), &[]).unwrap();
    let [access] = made.accesses.as_slice() else {
        panic!("{made:?}");
    };
    assert_eq!(access.key().to_string(), "access/shop/orders-api in dev");
    assert!(crate::manifest::validate(access).is_ok());
    let mut live = access.clone();
    live.metadata.uid = Some(uid(9));
    live.status = Some(json!({"login": "x"}));

    let again = expand(&database, uid(1), &[live.clone()]).unwrap();
    assert_eq!(again.accesses, std::slice::from_ref(&live));

    let lower = typed(&json!([{"workload": "api", "level": "readOnly"}]));
    let changed = expand(&lower, uid(1), &[live.clone()]).unwrap();
    assert_eq!(changed.accesses[0].metadata.generation, 2);
    assert_eq!(changed.accesses[0].metadata.uid, live.metadata.uid);

    let gone = expand(&typed(&json!([])), uid(1), &[live.clone()]).unwrap();
    assert_eq!(gone.obsolete, [live.key()]);
    // Made by a database of that name that lived before.
    let refused = expand(&database, uid(2), &[live]).unwrap_err();
    assert_eq!(refused[0].key, "collision");
}

#[test]
fn an_access_of_somebody_else_is_never_taken_over() {
    let database = typed(&json!([{"workload": "api", "level": "readWrite"}]));
    let mut foreign = resource(Kind::Access, json!({}));
    foreign.metadata.name = name("orders-api");
    let refused = expand(&database, uid(1), &[foreign.clone()]).unwrap_err();
    assert_eq!(refused[0].pointer, "/spec/access/0/workload");
    assert!(refused[0].message.contains("was applied by itself"));
    // Another team's of the same name is no matter.
    foreign.metadata.namespace = Some(name("ledger"));
    assert!(expand(&database, uid(1), &[foreign]).is_ok());
}

#[test]
fn an_access_name_that_would_be_too_long_is_refused() {
    let long = "w".repeat(60);
    let database = typed(&json!([{"workload": long, "level": "owner"}]));
    assert_eq!(expand(&database, uid(1), &[]).unwrap_err()[0].key, "length");
}

fn set(environment: &str) -> ApplySet {
    ApplySet {
        name: name("shop"),
        environment: name(environment),
    }
}

fn member(kind: Kind, called: &str, sets: &[ApplySet]) -> Resource {
    let mut resource = resource(kind, json!({}));
    resource.metadata.name = name(called);
    if matches!(kind, Kind::Workload | Kind::Team | Kind::Environment) {
        resource.metadata.environment = None;
    }
    for set in sets {
        assert!(set.enrol(&mut resource).unwrap());
    }
    resource
}

#[test]
fn prune_deletes_members_that_are_not_named_any_more_and_nobody_else() {
    let dev = set("dev");
    let sets = [dev.clone()];
    let kept = member(Kind::Database, "kept", &sets);
    let members = [
        member(Kind::Workload, "api", &sets),
        member(Kind::Database, "old", &sets),
        member(Kind::Access, "old-x", &sets),
        member(Kind::Workload, "everywhere", &[dev.clone(), set("prod")]),
        member(Kind::Team, "shop", &sets),
        member(Kind::Database, "by-hand", &[]),
        member(Kind::Database, "prods", &[set("prod")]),
        kept.clone(),
    ];
    let pruned = prune(&dev, &members, &[kept.key()]).unwrap();
    let names = |keys: &[freehold_model::ResourceKey]| {
        keys.iter()
            .map(|key| key.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&pruned.delete), ["old-x", "old", "api"]);
    assert_eq!(names(&pruned.release), ["everywhere"]);
    assert_eq!(pruned.keep.len(), 1);
    assert!(pruned.keep[0].1.contains("never pruned"));
}

#[test]
fn an_empty_manifest_prunes_nothing() {
    let dev = set("dev");
    let members = [member(Kind::Database, "a", std::slice::from_ref(&dev))];
    let refused = prune(&dev, &members, &[]).unwrap_err();
    assert_eq!(refused.members, 1);
    assert_eq!(prune(&dev, &[], &[]).unwrap(), Prune::default());
}

#[test]
fn a_resource_is_in_one_set_of_an_environment() {
    let mut resource = member(Kind::Database, "a", &[set("dev")]);
    let other = ApplySet {
        name: name("other"),
        environment: name("dev"),
    };
    assert_eq!(other.enrol(&mut resource).unwrap_err().set, "shop");
    assert_eq!(set("dev").enrol(&mut resource), Ok(false));
    assert!(set("dev").release(&mut resource));
    assert_eq!(other.enrol(&mut resource), Ok(true));
}

#[test]
fn what_follows_its_owner_is_not_pruned() {
    let dev = set("dev");
    let mut owned = member(Kind::Access, "owned", std::slice::from_ref(&dev));
    owned.metadata.owner_reference = Some(freehold_model::OwnerReference {
        kind: Kind::Database,
        name: name("orders"),
        uid: uid(1),
    });
    let kept = member(Kind::Database, "kept", std::slice::from_ref(&dev));
    let pruned = prune(&dev, &[owned, kept.clone()], &[kept.key()]).unwrap();
    assert!(pruned.delete.is_empty());
    assert_eq!(pruned.keep.len(), 1);
}

/// Small specs over few fields, so that managers meet often.
fn specs() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (0..3u8).prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["x"])),
        Just(json!({"x": 1})),
    ];
    let inner = prop::collection::hash_map("[a-c~/]", leaf.clone(), 0..3)
        .prop_map(|map| map.into_iter().collect::<Value>());
    prop::collection::hash_map("[a-d]", prop_oneof![leaf, inner], 0..4)
        .prop_map(|map| map.into_iter().collect::<Value>())
}

fn managers() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("cli"), Just("ci"), Just("ana")]
}

/// Whether everything that `manifest` states stands in `merged`.
fn holds(merged: &Resource, manifest: &Resource) -> bool {
    leaves::of(manifest).iter().all(|(at, value)| {
        let there = leaves::get(merged, at);
        let only_presence = value == &json!({}) && there.as_ref().is_some_and(Value::is_object);
        only_presence || there.as_ref() == Some(value)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_the_history_applying_again_changes_nothing_and_everybody_gets_what_they_stated(
        steps in prop::collection::vec((managers(), specs(), any::<bool>()), 1..8)
    ) {
        let mut live: Option<Resource> = None;
        let mut stated: std::collections::BTreeMap<&str, Resource> = Default::default();
        for (manager, spec, force) in steps {
            let manifest = database(spec);
            let Ok(merged) = merge(live.as_ref(), &manifest, manager, force) else {
                prop_assert!(!force, "only force is never refused here");
                continue;
            };
            prop_assert!(holds(&merged.resource, &manifest), "{:?}", merged);
            let again = merge(Some(&merged.resource), &manifest, manager, false).unwrap();
            prop_assert_eq!(&again.outcome, &Outcome::Unchanged);
            prop_assert!(!again.write, "{:?} {:?}", again, merged);

            let spec_changed = live.as_ref().is_some_and(|it| it.spec != merged.resource.spec);
            let grown = live.as_ref().is_some_and(|it| {
                it.metadata.generation + 1 == merged.resource.metadata.generation
            });
            prop_assert_eq!(spec_changed, grown);

            if force {
                stated.clear();
            }
            stated.insert(manager, manifest);
            for (other, manifest) in &stated {
                prop_assert!(holds(&merged.resource, manifest), "{} lost a field: {:?}", other, merged);
            }
            // Every field that is owned exists, and every field that exists is owned.
            let owned: BTreeSet<&String> =
                merged.resource.metadata.managed_fields.values().flatten().collect();
            for at in &owned {
                prop_assert!(leaves::get(&merged.resource, at).is_some(), "{} {:?}", at, merged);
            }
            for at in leaves::of(&merged.resource).keys() {
                prop_assert!(owned.contains(at), "{} is nobody's: {:?}", at, merged);
            }
            live = Some(merged.resource);
        }
    }

    #[test]
    fn a_manager_who_leaves_takes_only_what_was_theirs_alone(mine in specs(), theirs in specs()) {
        let first = merge(None, &database(theirs), "ci", false).unwrap().resource;
        let Ok(both) = merge(Some(&first), &database(mine), "cli", false) else {
            return Ok(());
        };
        let back = merge(Some(&both.resource), &database(json!({})), "cli", false).unwrap();
        prop_assert_eq!(leaves::of(&back.resource), leaves::of(&first));
    }
}
