//! Documents whose shape changes while replicas of both versions run.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use super::{Subject, index, json, key, put};
use crate::{
    Batch, Collection, DeleteMode, Document, ErrorKind, IndexSpec, IndexValue, PutMode, Result,
    StoreHandle,
};

/// Version 1: one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PersonV1 {
    name: String,
    visits: u64,
}

/// Version 2 adds a nested part and keeps what version 1 needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PersonV2 {
    name: String,
    visits: u64,
    address: Address,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Address {
    town: String,
}

/// Version 3 has another name for `name`, which no older program understands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PersonV3 {
    full_name: String,
    visits: u64,
    address: Address,
}

fn by_town() -> Vec<IndexSpec> {
    vec![index("by_town", &["/address/town"], false, 1)]
}

impl Document for PersonV1 {
    const COLLECTION: &'static str = "people";
    const VERSION: u32 = 1;
    const READABLE_FROM: u32 = 1;
    fn upgrade(_: u32, value: Json) -> Result<Json> {
        Ok(value)
    }
    fn indexes() -> Vec<IndexSpec> {
        Vec::new()
    }
}

impl Document for PersonV2 {
    const COLLECTION: &'static str = "people";
    const VERSION: u32 = 2;
    const READABLE_FROM: u32 = 1;
    fn upgrade(_: u32, mut value: Json) -> Result<Json> {
        value["address"] = serde_json::json!({ "town": "unknown" });
        Ok(value)
    }
    fn indexes() -> Vec<IndexSpec> {
        by_town()
    }
}

impl Document for PersonV3 {
    const COLLECTION: &'static str = "people";
    const VERSION: u32 = 3;
    const READABLE_FROM: u32 = 3;
    fn upgrade(from: u32, value: Json) -> Result<Json> {
        let mut value = if from == 1 {
            PersonV2::upgrade(1, value)?
        } else {
            value
        };
        let members = value.as_object_mut().unwrap();
        let name = members.remove("name").unwrap();
        members.insert("full_name".to_owned(), name);
        Ok(value)
    }
    fn indexes() -> Vec<IndexSpec> {
        by_town()
    }
}

async fn open<T: Document + DeserializeOwned>(store: StoreHandle) -> Collection<T> {
    let collection = Collection::new(store).unwrap();
    collection.define().await.unwrap();
    collection
}

pub async fn a_document_is_upgraded_when_it_is_read(subject: &dyn Subject) {
    let v1 = open::<PersonV1>(subject.open().await).await;
    let v3 = open::<PersonV3>(subject.open().await).await;
    let (at, bare) = (key("ann"), key("bare"));
    let ann = PersonV1 {
        name: "Ann".to_owned(),
        visits: u64::MAX,
    };
    v1.create(at.clone(), &ann).await.unwrap();
    // What was written without a stamp, before there were documents, is of the first version.
    let text = r#"{"name":"Bare","visits":1}"#;
    put(v1.store(), v1.name(), &bare, json(text), PutMode::Create)
        .await
        .unwrap();

    let read = v3.get(&at).await.unwrap().unwrap();
    assert_eq!(
        (read.value.full_name.as_str(), read.value.visits),
        ("Ann", u64::MAX)
    );
    assert_eq!(
        v3.get(&bare).await.unwrap().unwrap().value.address.town,
        "unknown"
    );
    assert_eq!(
        v1.get(&at).await.unwrap().unwrap().value,
        ann,
        "reading rewrites nothing"
    );
    let town = vec![IndexValue::from("Bonn")];
    let saved = v3
        .update(&at, |person| {
            person.address.town = "Bonn".to_owned();
            Ok(())
        })
        .await
        .unwrap();
    let found = v3.find("by_town", town).await.unwrap();
    assert_eq!(
        (&found[0].key, &found[0].etag, found.len()),
        (&at, &saved.etag, 1)
    );
    let text = v3.store().get(v3.name(), &at).await.unwrap().unwrap();
    assert!(!text.value.text().contains("\"name\""), "{:?}", text.value);
}

pub async fn the_previous_version_reads_and_writes_beside_the_new_one(subject: &dyn Subject) {
    let v1 = open::<PersonV1>(subject.open().await).await;
    let v2 = open::<PersonV2>(subject.open().await).await;
    let at = key("ann");
    let ann = PersonV2 {
        name: "Ann".to_owned(),
        visits: 1,
        address: Address {
            town: "Bonn".to_owned(),
        },
    };
    v2.create(at.clone(), &ann).await.unwrap();
    // A still newer member, at depth, with a number that no double holds.
    let record = v2.store().get(v2.name(), &at).await.unwrap().unwrap();
    let text = record
        .value
        .text()
        .replace("\"Bonn\"", "\"Bonn\",\"door\":36893488147419103233");
    put(
        v2.store(),
        v2.name(),
        &at,
        json(text),
        PutMode::Match(record.etag),
    )
    .await
    .unwrap();

    let old = v1
        .update(&at, |person| {
            person.visits += 1;
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(old.value.visits, 2);
    let new = v2.get(&at).await.unwrap().unwrap();
    assert_eq!(
        (new.value.visits, new.value.address.town.as_str()),
        (2, "Bonn")
    );
    // The old program kept the index that it does not know, and the new one what neither knows.
    let found = v2
        .find("by_town", vec![IndexValue::from("Bonn")])
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    v2.update(&at, |person| {
        person.address.town = "Köln".to_owned();
        Ok(())
    })
    .await
    .unwrap();
    let text = v2.store().get(v2.name(), &at).await.unwrap().unwrap().value;
    assert!(
        text.text().contains("\"door\":36893488147419103233"),
        "{}",
        text.text()
    );
    // Through batches too.
    let mut read = v1.get(&at).await.unwrap().unwrap();
    read.value.visits = 9;
    let batch = Batch {
        preconditions: Vec::new(),
        writes: vec![
            v1.to_save(&read).unwrap(),
            v1.to_create(key("bob"), &read.value).unwrap(),
            v1.to_delete(key("nobody"), DeleteMode::Any),
        ],
    };
    v1.store().apply(batch.clone()).await.unwrap();
    assert!(v1.store().apply(batch).await.unwrap_err().is_conflict());
    let read = v2.get(&at).await.unwrap().unwrap().value;
    assert_eq!((read.visits, read.address.town.as_str()), (9, "Köln"));
}

pub async fn a_document_that_cannot_be_read_says_why(subject: &dyn Subject) {
    let v2 = open::<PersonV2>(subject.open().await).await;
    let v3 = open::<PersonV3>(subject.open().await).await;
    let at = key("ann");
    let ann = PersonV3 {
        full_name: "Ann".to_owned(),
        visits: 1,
        address: Address {
            town: "Bonn".to_owned(),
        },
    };
    v3.create(at.clone(), &ann).await.unwrap();
    let before = v3.get(&at).await.unwrap().unwrap();
    for error in [
        v2.get(&at).await.unwrap_err(),
        v2.update(&at, |_| Ok(())).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("newer program"), "{error}");
    }
    assert_eq!(v3.get(&at).await.unwrap().unwrap().etag, before.etag);
    for text in [r#"{"_v":[2,1],"visits":"many"}"#, "[1]", r#"{"_v":0}"#] {
        put(v2.store(), v2.name(), &at, json(text), PutMode::Upsert)
            .await
            .unwrap();
        assert_eq!(
            v2.get(&at).await.unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{text}"
        );
    }
    let absent = v2.update(&key("nobody"), |_| Ok(())).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::VersionMismatch);
}

pub async fn concurrent_updates_of_a_document_all_count(subject: &dyn Subject) {
    let at = key("ann");
    let first = open::<PersonV1>(subject.open().await).await;
    let ann = PersonV1 {
        name: "Ann".to_owned(),
        visits: 0,
    };
    first.create(at.clone(), &ann).await.unwrap();
    let visitors = (0..8).map(|_| {
        let (people, at) = (first.clone(), at.clone());
        async move {
            for _ in 0..5 {
                let visit = |person: &mut PersonV1| {
                    person.visits += 1;
                    Ok(())
                };
                people.update(&at, visit).await.unwrap();
            }
        }
    });
    super::join(visitors).await;
    assert_eq!(first.get(&at).await.unwrap().unwrap().value.visits, 40);
}
