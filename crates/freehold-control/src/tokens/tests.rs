use std::{os::unix::fs::PermissionsExt as _, sync::Mutex};

use freehold_model::SystemEntropy;
use freehold_store::{CollectionName, Key, MemoryStore};

use super::*;

/// A clock that stands until it is moved.
#[derive(Debug)]
struct Hand(Mutex<Timestamp>);

impl Hand {
    fn forward(&self, by: SignedDuration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct World {
    tokens: Tokens,
    clock: Arc<Hand>,
}

async fn world() -> World {
    let clock = Arc::new(Hand(Mutex::new("2026-03-01T12:00:00Z".parse().unwrap())));
    let entropy = Arc::new(SystemEntropy);
    let store = StoreHandle::new(MemoryStore::new(clock.clone(), entropy.clone()));
    let tokens = Tokens::new(store, clock.clone(), entropy);
    tokens.define().await.unwrap();
    let side = CollectionSpec {
        name: side(),
        indexes: Vec::new(),
    };
    tokens.store.define(side).await.unwrap();
    World { tokens, clock }
}

fn side() -> CollectionName {
    CollectionName::new("side").unwrap()
}

/// Something to be saved with a token.
fn beside(token: &Token) -> Vec<Write> {
    vec![Write::Put {
        collection: side(),
        key: Key::new(token.id.as_str()).unwrap(),
        value: Value::encode(&true).unwrap(),
        mode: PutMode::Upsert,
        expires_at: None,
    }]
}

fn request(subject: &str, kind: SubjectKind) -> TokenRequest {
    TokenRequest {
        subject: Name::new(subject).unwrap(),
        kind,
        platform_role: None,
        expires_at: None,
        description: String::new(),
        created_by: "admin".to_owned(),
    }
}

impl World {
    async fn is_beside(&self, id: &TokenId) -> bool {
        let key = Key::new(id.as_str()).unwrap();
        self.tokens
            .store
            .get(&side(), &key)
            .await
            .unwrap()
            .is_some()
    }

    async fn everything_stored(&self) -> String {
        let mut text = String::new();
        for collection in [record::tokens(), record::subjects(), record::bootstrap()] {
            let page = self
                .tokens
                .store
                .scan(Scan::new(collection, Range::All))
                .await
                .unwrap();
            for record in page.records {
                text.push_str(record.value.text());
            }
        }
        text
    }
}

#[tokio::test]
async fn a_token_says_whose_it_is_and_its_secret_is_not_stored() {
    let world = world().await;
    let asked = request("ana", SubjectKind::Person);
    let (token, secret) = world.tokens.create(asked, beside).await.unwrap();
    assert!(secret.expose().starts_with(&format!("fh_{}_", token.id)));
    let holder = world.tokens.authenticate(secret.expose()).await.unwrap();
    assert_eq!(
        (holder.id, holder.subject.as_str()),
        (token.id.clone(), "ana")
    );
    assert!(world.is_beside(&token.id).await);

    let (_, half) = secret.expose().rsplit_once('_').unwrap();
    assert!(!world.everything_stored().await.contains(half));
}

#[tokio::test]
async fn wrong_foreign_expired_and_revoked_tokens_are_refused_alike() {
    let world = world().await;
    let mut asked = request("ana", SubjectKind::Person);
    asked.expires_at = Some(world.clock.now() + SignedDuration::from_hours(1));
    let (_, expiring) = world.tokens.create(asked, |_| Vec::new()).await.unwrap();
    let asked = request("ben", SubjectKind::Person);
    let (revoked, secret) = world.tokens.create(asked, |_| Vec::new()).await.unwrap();
    world.tokens.authenticate(expiring.expose()).await.unwrap();
    world.tokens.authenticate(secret.expose()).await.unwrap();

    world.tokens.revoke(&revoked.id, beside).await.unwrap();
    assert!(world.is_beside(&revoked.id).await);
    world.clock.forward(SignedDuration::from_hours(1));
    let (ours, theirs) = (expiring.expose(), secret.expose());
    let mixed = format!("{}{}", &ours[..20], &theirs[20..]);
    let mut answers = std::collections::HashSet::new();
    for bearer in [ours, theirs, mixed.as_str(), "", "fh_x_y", "hunter2"] {
        let error = world.tokens.authenticate(bearer).await.unwrap_err();
        assert_eq!(error.code, Code::Unauthenticated);
        answers.insert((error.message, error.hint));
    }
    assert_eq!(answers.len(), 1, "the answer tells nothing about the token");
}

#[tokio::test]
async fn a_swapped_secret_does_not_open_a_live_token() {
    let world = world().await;
    let one = world
        .tokens
        .create(request("ana", SubjectKind::Person), |_| vec![])
        .await
        .unwrap();
    let two = world
        .tokens
        .create(request("ben", SubjectKind::Person), |_| vec![])
        .await
        .unwrap();
    let mixed = format!("{}{}", &one.1.expose()[..20], &two.1.expose()[20..]);
    assert!(world.tokens.authenticate(&mixed).await.is_err());
}

#[tokio::test]
async fn use_is_noted_coarsely() {
    let world = world().await;
    let asked = request("ci-shop", SubjectKind::Machine);
    let (token, secret) = world.tokens.create(asked, |_| Vec::new()).await.unwrap();
    let mut noted = Vec::new();
    for _ in 0..12 {
        world.tokens.authenticate(secret.expose()).await.unwrap();
        noted.extend(
            world
                .tokens
                .get(&token.id)
                .await
                .unwrap()
                .unwrap()
                .last_used_at,
        );
        world.clock.forward(SignedDuration::from_mins(1));
    }
    noted.dedup();
    assert_eq!(
        noted.len(),
        2,
        "twelve uses in twelve minutes are two writes"
    );
}

#[tokio::test]
async fn a_subject_stays_a_person_or_a_machine() {
    let world = world().await;
    let person = request("ana", SubjectKind::Person);
    let (_, secret) = world
        .tokens
        .create(person.clone(), |_| Vec::new())
        .await
        .unwrap();
    world.tokens.create(person, |_| Vec::new()).await.unwrap();
    let machine = request("ana", SubjectKind::Machine);
    let error = world.tokens.create(machine, beside).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert_eq!(world.tokens.list().await.unwrap().len(), 2);
    world.tokens.authenticate(secret.expose()).await.unwrap();
}

#[tokio::test]
async fn only_platform_roles_stand_in_a_token_and_only_live_ones_are_made() {
    let world = world().await;
    let mut owner = request("ana", SubjectKind::Person);
    owner.platform_role = Some(Role::Owner);
    let mut past = request("ana", SubjectKind::Person);
    past.expires_at = Some(world.clock.now());
    for asked in [owner, past] {
        let error = world
            .tokens
            .create(asked, |_| Vec::new())
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::Invalid);
    }
}

#[tokio::test]
async fn revoking_twice_saves_nothing_the_second_time_and_what_is_not_there_is_not_found() {
    let world = world().await;
    let asked = request("ana", SubjectKind::Person);
    let (token, _) = world.tokens.create(asked, |_| Vec::new()).await.unwrap();
    let first = world
        .tokens
        .revoke(&token.id, |_| Vec::new())
        .await
        .unwrap();
    world.clock.forward(SignedDuration::from_mins(1));
    let second = world.tokens.revoke(&token.id, beside).await.unwrap();
    assert_eq!(first.revoked_at, second.revoked_at);
    assert!(!world.is_beside(&token.id).await);
    let unknown = TokenId::parse("aaaaaaaaaaaaaaaa").unwrap();
    let error = world
        .tokens
        .revoke(&unknown, |_| Vec::new())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::NotFound);
}

#[tokio::test]
async fn the_first_admin_token_is_made_once_by_whichever_server_is_faster() {
    let world = world().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin-token");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (tokens, path) = (world.tokens.clone(), path.clone());
            tokio::spawn(async move { tokens.bootstrap(&path, beside).await.unwrap() })
        })
        .collect();
    let mut made = Vec::new();
    for task in tasks {
        made.extend(task.await.unwrap());
    }
    assert_eq!(made.len(), 1);
    assert_eq!(world.tokens.list().await.unwrap().len(), 1);
    assert!(world.is_beside(&made[0].id).await);

    let text = std::fs::read_to_string(&path).unwrap();
    let holder = world.tokens.authenticate(text.trim_end()).await.unwrap();
    assert_eq!(holder.platform_role, Some(Role::Admin));
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no draft is left"
    );

    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.tokens.bootstrap(&path, beside).await.unwrap(), None);
    assert!(
        !path.exists(),
        "a token that was taken away does not come back"
    );
}

#[tokio::test]
async fn a_server_that_was_killed_before_naming_the_file_finishes_at_the_next_start() {
    let world = world().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin-token");
    let made = world
        .tokens
        .bootstrap(&path, |_| Vec::new())
        .await
        .unwrap()
        .unwrap();
    let draft = folder.path().join(format!("admin-token.{}.new", made.id));
    std::fs::rename(&path, &draft).unwrap();

    assert_eq!(
        world.tokens.bootstrap(&path, |_| Vec::new()).await.unwrap(),
        None
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(world.tokens.authenticate(text.trim_end()).await.is_ok());
}
