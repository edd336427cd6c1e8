use std::os::unix::fs::PermissionsExt as _;

use freehold_model::{SystemClock, SystemEntropy};
use freehold_store::MemoryStore;
use proptest::prelude::*;

use super::*;

fn sealer() -> Sealer {
    let mut key = Zeroizing::new([0; 32]);
    SystemEntropy.fill(key.as_mut());
    Sealer::new(&key, Arc::new(SystemEntropy))
}

fn place() -> Place {
    Place::new("credentials", "prod/shop/orders", "password")
}

/// A sealer with a new key that still has the keys of `old`.
fn successor(old: &Sealer) -> Sealer {
    let new = sealer();
    let mut keys = BTreeMap::clone(&old.keys);
    keys.extend(BTreeMap::clone(&new.keys));
    let keys = Arc::new(keys);
    Sealer { keys, ..new }
}

proptest! {
    #[test]
    fn what_is_sealed_opens_in_its_place_only(
        text in any::<String>(),
        here in any::<[String; 3]>(),
        there in any::<[String; 3]>(),
    ) {
        let place = |parts: &[String; 3]| Place::new(&parts[0], &parts[1], &parts[2]);
        let (sealer, secret) = (sealer(), Secret::new(text));
        let sealed = sealer.seal(&place(&here), &secret);
        prop_assert!(sealer.open(&place(&here), &sealed).unwrap() == secret);
        if here != there {
            prop_assert!(sealer.open(&place(&there), &sealed).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let sealer = sealer();
        let sealed = sealer.seal(&place(), &Secret::new("hunter2"));
        let flip = |text: &str| {
            let mut bytes = STANDARD.decode(text).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            STANDARD.encode(bytes)
        };
        let damaged = [
            Sealed { ciphertext: flip(&sealed.ciphertext), ..sealed.clone() },
            Sealed { wrapped_key: flip(&sealed.wrapped_key), ..sealed.clone() },
        ];
        for sealed in damaged {
            prop_assert_eq!(sealer.open(&place(), &sealed).unwrap_err().code, Code::Internal);
        }
    }

    #[test]
    fn arbitrary_texts_do_not_open(wrapped_key in any::<String>(), ciphertext in any::<String>()) {
        let sealer = sealer();
        let key_id = sealer.key_id().to_owned();
        let sealed = Sealed { key_id, wrapped_key, ciphertext };
        prop_assert!(sealer.open(&place(), &sealed).is_err());
    }

    #[test]
    fn parts_of_a_place_do_not_run_together(a in "[0-9:]{0,4}", b in "[0-9:]{0,4}", c in "[0-9:]{0,4}", d in "[0-9:]{0,4}") {
        let same = (&a, &b) == (&c, &d);
        prop_assert_eq!(Place::new(&a, &b, "x") == Place::new(&c, &d, "x"), same);
        prop_assert_eq!(Place::new("x", &a, &b) == Place::new("x", &c, &d), same);
    }
}

#[test]
fn two_seals_of_one_secret_have_nothing_in_common_and_do_not_show_it() {
    let sealer = sealer();
    let secret = Secret::new("hunter2");
    let (one, two) = (
        sealer.seal(&place(), &secret),
        sealer.seal(&place(), &secret),
    );
    assert_ne!(one.ciphertext, two.ciphertext);
    assert_ne!(one.wrapped_key, two.wrapped_key);
    let kept = serde_json::to_string(&one).unwrap();
    assert!(!kept.contains("hunter2") && !kept.contains(&STANDARD.encode("hunter2")));
}

#[test]
fn halves_of_two_sealed_secrets_do_not_make_a_third() {
    let sealer = sealer();
    let one = sealer.seal(&place(), &Secret::new("one"));
    let two = sealer.seal(&place(), &Secret::new("two"));
    let mixed = Sealed {
        ciphertext: two.ciphertext,
        ..one
    };
    assert!(sealer.open(&place(), &mixed).is_err());
}

#[test]
fn a_wrong_key_is_said_to_be_one_and_a_hint_tells_what_to_do() {
    let (ours, theirs) = (sealer(), sealer());
    let sealed = theirs.seal(&place(), &Secret::new("hunter2"));
    let error = ours.open(&place(), &sealed).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(error.message.contains(ours.key_id()) && error.message.contains(theirs.key_id()));
    assert!(error.hint.unwrap().contains("previous key"));
}

#[test]
fn rewrapping_lets_the_old_key_go() {
    let old = sealer();
    let sealed = old.seal(&place(), &Secret::new("hunter2"));
    let both = successor(&old);
    let rewrapped = both.rewrap(&place(), &sealed).unwrap().unwrap();
    assert_eq!(rewrapped.key_id(), both.key_id());
    assert_eq!(both.rewrap(&place(), &rewrapped).unwrap(), None);

    let mut only_new = both.clone();
    only_new.keys = Arc::new(BTreeMap::from([(
        both.current.clone(),
        Arc::clone(&both.keys[&both.current]),
    )]));
    assert_eq!(
        only_new.open(&place(), &rewrapped).unwrap().expose(),
        "hunter2"
    );
    assert!(only_new.open(&place(), &sealed).is_err());
    assert!(old.open(&place(), &rewrapped).is_err());
}

#[tokio::test]
async fn a_server_with_another_key_than_the_stores_is_told_so_at_start() {
    let store = StoreHandle::new(MemoryStore::new(
        Arc::new(SystemClock),
        Arc::new(SystemEntropy),
    ));
    let first = sealer();
    first.check(&store).await.unwrap();
    first.check(&store).await.unwrap();
    let error = sealer().check(&store).await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);

    let next = successor(&first);
    next.check(&store).await.unwrap();
    assert!(
        first.check(&store).await.is_err(),
        "the mark is under the new key now"
    );
}

#[tokio::test]
async fn a_key_file_is_made_once_and_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let source = |generate| KeySource::File {
        path: path.clone(),
        generate,
    };
    assert!(
        Sealer::load(&source(false), &[], Arc::clone(&entropy))
            .await
            .is_err()
    );
    let both = tokio::join!(
        tokio::spawn({
            let (s, e) = (source(true), Arc::clone(&entropy));
            async move { Sealer::load(&s, &[], e).await }
        }),
        tokio::spawn({
            let (s, e) = (source(true), Arc::clone(&entropy));
            async move { Sealer::load(&s, &[], e).await }
        }),
    );
    let (one, two) = (both.0.unwrap().unwrap(), both.1.unwrap().unwrap());
    assert_eq!(one.key_id(), two.key_id());
    let again = Sealer::load(&source(false), &[], entropy).await.unwrap();
    assert_eq!(one.key_id(), again.key_id());

    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no draft is left"
    );
}

#[tokio::test]
async fn a_key_that_others_can_read_or_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let load = |text: &str, mode| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let source: KeySource = format!("file:{}", path.display()).parse().unwrap();
        async move { Sealer::load(&source, &[], Arc::new(SystemEntropy)).await }
    };
    let (base64, hexadecimal) = (STANDARD.encode([7; 32]), hex::encode([7; 32]));
    let one = load(&base64, 0o600).await.unwrap();
    let two = load(&format!("{hexadecimal}\n"), 0o400).await.unwrap();
    assert_eq!(one.key_id(), two.key_id());
    for (text, mode) in [
        (base64.as_str(), 0o644),
        ("hunter2", 0o600),
        (&base64[..40], 0o600),
    ] {
        let error = load(text, mode).await.unwrap_err();
        assert!(error.hint.is_some());
        assert!(!format!("{error} {error:?}").contains(text));
    }
}

#[tokio::test]
async fn the_key_may_come_from_a_command() {
    let command = format!("/bin/echo {}", STANDARD.encode([7; 32]));
    let source: KeySource = format!("exec:{command}").parse().unwrap();
    assert_eq!(source, KeySource::Command { command });
    assert!(
        Sealer::load(&source, &[], Arc::new(SystemEntropy))
            .await
            .is_ok()
    );
    for text in ["", "file:", "file:x", "env:", "exec: ", "hunter2"] {
        assert!(text.parse::<KeySource>().is_err(), "{text}");
    }
}
