//! Bundles: the same folder gives the same address, and nothing hostile opens.

use std::{fs, io::Write as _, path::Path};

use flate2::{Compression, write::GzEncoder};
use freehold_migrate::{Bundle, BundleError, Dialect, Limits, RefusalCode};
use tar::{EntryType, Header};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let at = folder.path().join(path);
        fs::create_dir_all(at.parent().expect("a parent")).expect("a folder");
        fs::write(at, text).expect("a file");
    }
    folder
}

const FILES: &[(&str, &str)] = &[
    ("V1__a.sql", "select 1;"),
    ("sub/V2__b.sql", "select 2;\r\n"),
    ("sub/V2__b.sql.conf", "executeInTransaction=false"),
    ("R__views.sql", "select 3;"),
    ("README.md", "read me"),
    (".DS_Store", "x"),
    (".git/V9__x.sql", "x"),
];

#[test]
fn the_same_files_give_the_same_bytes_and_strays_are_named() {
    let first = Bundle::pack(folder(FILES).path()).expect("packs");
    let mut reversed = FILES.to_vec();
    reversed.reverse();
    let second = Bundle::pack(folder(&reversed).path()).expect("packs");
    assert_eq!(first.archive, second.archive);
    assert_eq!(first.left_out, [".DS_Store", ".git", "README.md"]);
    let paths: Vec<&str> = first.bundle.files().map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        [
            "R__views.sql",
            "V1__a.sql",
            "sub/V2__b.sql",
            "sub/V2__b.sql.conf"
        ]
    );

    let opened = Bundle::open_expecting(&first.archive, first.bundle.digest()).expect("opens");
    assert_eq!(opened.file("sub/V2__b.sql"), Some(&b"select 2;\r\n"[..]));
    assert_eq!(opened.to_archive(), first.archive);
}

/// The address is a promise to bundles that were made before: it must not change by accident.
#[test]
fn the_address_depends_on_the_content_alone() {
    let bundle = Bundle::from_files([("V1__a.sql", "select 1;")]).expect("a bundle");
    assert_eq!(bundle.digest().as_str(), ADDRESS);
    let renamed = Bundle::from_files([("V1__b.sql", "select 1;")]).expect("a bundle");
    let changed = Bundle::from_files([("V1__a.sql", "select 1; ")]).expect("a bundle");
    assert_ne!(renamed.digest(), bundle.digest());
    assert_ne!(changed.digest(), bundle.digest());
    let error = Bundle::open_expecting(&changed.to_archive(), bundle.digest());
    assert!(matches!(error, Err(BundleError::OtherDigest { .. })));
}

const ADDRESS: &str = "sha256:ed94a49a7f873d91f9d9bed550730da33ab4f35d56692d9e93e5637d1880c15d";

#[test]
fn all_wrong_names_are_listed_at_once() {
    let folder = folder(&[
        ("V1__a.sql", ""),
        ("v2__b.sql", ""),
        ("sub/U1__c.sql", ""),
        ("V3__d.sql.conf", ""),
    ]);
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("V4__link.sql")).expect("a link");
    let Err(BundleError::Refused(refusals)) = Bundle::pack(folder.path()) else {
        panic!("it must be refused");
    };
    let mut files: Vec<&str> = refusals
        .iter()
        .filter_map(|refusal| refusal.file.as_deref())
        .collect();
    files.sort_unstable();
    assert_eq!(
        files,
        [
            "V3__d.sql.conf",
            "V4__link.sql",
            "sub/U1__c.sql",
            "v2__b.sql"
        ]
    );
    assert!(
        refusals
            .iter()
            .all(|refusal| refusal.code == RefusalCode::InvalidName)
    );
    assert!(matches!(
        Bundle::pack(Path::new("/nowhere/at/all")),
        Err(BundleError::Read { .. })
    ));
    let empty = self::folder(&[("README", "")]);
    assert!(matches!(
        Bundle::pack(empty.path()),
        Err(BundleError::Empty { .. })
    ));
}

#[test]
fn check_finds_what_would_be_refused_before_running() {
    let bundle = Bundle::from_files([
        ("V1__a.sql", "select 1;\n\\i x.sql"),
        ("V2__b.sql", "select 1; COMMIT;"),
        ("R__c.sql", "select 1;"),
    ])
    .expect("a bundle");
    let codes: Vec<RefusalCode> = bundle.check().iter().map(|refusal| refusal.code).collect();
    assert_eq!(
        codes,
        [RefusalCode::InvalidScript, RefusalCode::TransactionControl]
    );

    let bundle = Bundle::from_files([
        ("V1__a.sql", ""),
        ("sub/V01.0__b.sql", ""),
        ("R__c_d.sql", ""),
        ("sub/R__c d.sql", ""),
        ("V2__x.sql.conf", "nonsense=true"),
        ("V2__x.sql", ""),
    ])
    .expect("a bundle");
    let mut codes: Vec<&str> = bundle
        .check()
        .iter()
        .map(|refusal| refusal.code.as_str())
        .collect();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            "DUPLICATE_REPEATABLE_MIGRATION",
            "DUPLICATE_VERSIONED_MIGRATION",
            "INVALID_CONFIG"
        ]
    );
}

/// One entry of a forged archive: its name, sort and bytes.
type Forged<'a> = (&'a [u8], EntryType, &'a [u8]);

fn forge(entries: &[Forged<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, kind, bytes) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    gzip(&tar)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn manifest_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let bundle = Bundle::from_files(files.iter().map(|(path, bytes)| (*path, bytes.to_vec())));
    serde_json::to_vec(bundle.expect("a bundle").manifest()).expect("JSON")
}

#[test]
fn hostile_archives_do_not_open() {
    use EntryType::{Directory, Fifo, Link, Regular, Symlink};
    let manifest = manifest_of(&[("V1__a.sql", b"select 1;")]);
    let first: Forged<'_> = (b"freehold-bundle.json", Regular, &manifest);
    let good: Forged<'_> = (b"migrations/V1__a.sql", Regular, b"select 1;");
    assert!(Bundle::open(&forge(&[first, good])).is_ok());
    let cases: Vec<(&str, Vec<Forged<'_>>)> = vec![
        ("no manifest", vec![good]),
        ("nothing", vec![]),
        ("a missing file", vec![first]),
        ("a file twice", vec![first, good, good]),
        ("the manifest twice", vec![first, first, good]),
        ("other bytes", vec![first, (good.0, Regular, b"select 2;")]),
        (
            "one file more",
            vec![first, good, (b"migrations/V2__b.sql", Regular, b"")],
        ),
        (
            "a file elsewhere",
            vec![first, good, (b"x.sql", Regular, b"")],
        ),
        (
            "an absolute path",
            vec![first, good, (b"/etc/passwd", Regular, b"")],
        ),
        (
            "traversal",
            vec![first, good, (b"migrations/../x.sql", Regular, b"")],
        ),
        (
            "a doubled slash",
            vec![first, good, (b"migrations//x.sql", Regular, b"")],
        ),
        (
            "a backslash",
            vec![first, good, (b"migrations/..\\x.sql", Regular, b"")],
        ),
        (
            "a name that is not UTF-8",
            vec![first, good, (b"migrations/V\xff.sql", Regular, b"")],
        ),
        (
            "a line break in a name",
            vec![first, good, (b"migrations/V1\n.sql", Regular, b"")],
        ),
        (
            "a symbolic link",
            vec![first, good, (b"migrations/V2__b.sql", Symlink, b"")],
        ),
        (
            "a hard link",
            vec![first, good, (b"migrations/V2__b.sql", Link, b"")],
        ),
        (
            "a folder",
            vec![first, good, (b"migrations/x", Directory, b"")],
        ),
        ("a pipe", vec![first, good, (b"migrations/x", Fifo, b"")]),
    ];
    for (what, entries) in cases {
        assert!(
            matches!(
                Bundle::open(&forge(&entries)),
                Err(BundleError::Invalid { .. })
            ),
            "{what}"
        );
    }
    let archive = forge(&[first, good]);
    for length in [0, 1, 10, archive.len() / 2, archive.len() - 1] {
        assert!(Bundle::open(&archive[..length]).is_err(), "cut at {length}");
    }
    assert!(Bundle::open(b"select 1;").is_err());
}

#[test]
fn manifests_of_another_kind_do_not_open() {
    let good = String::from_utf8(manifest_of(&[])).expect("JSON");
    for (from, to) in [
        ("\"format\":1", "\"format\":2"),
        ("postgresql", "oracle"),
        ("postgresql", "mariadb"),
        ("\"files\"", "\"extra\":1,\"files\""),
    ] {
        let changed = good.replace(from, to);
        assert_ne!(changed, good);
        let archive = forge(&[(
            b"freehold-bundle.json",
            EntryType::Regular,
            changed.as_bytes(),
        )]);
        assert!(
            matches!(Bundle::open(&archive), Err(BundleError::Invalid { .. })),
            "{to}"
        );
    }
}

#[test]
fn a_bundle_says_whose_sql_it_holds_and_older_ones_still_open() {
    let files = [("V1__a.sql", "SELECT 1")];
    let digests: Vec<_> = Dialect::ALL
        .into_iter()
        .map(|dialect| {
            let bundle = Bundle::from_files_for(dialect, files).expect("a bundle");
            let opened = Bundle::open(&bundle.to_archive()).expect("it opens");
            assert_eq!(opened.dialect(), dialect);
            assert_eq!(opened.manifest().content.engine, dialect.as_str());
            opened.digest().clone()
        })
        .collect();
    assert!(digests[0] != digests[1] && digests[1] != digests[2]);
    // What was packed before there were other engines keeps its address.
    let plain = Bundle::from_files(files).expect("a bundle");
    assert_eq!(plain.digest(), &digests[0]);
    let before = "724899d9de81b4ad042fbdf04c69ee8f992bc5ab9fb94402e1b26f37e20ddd74";
    assert!(plain.digest().to_string().ends_with(before));
}

#[test]
fn bombs_are_refused_while_they_are_read() {
    let too_large = |archive: &[u8], limits: Limits| {
        matches!(
            Bundle::open_within(archive, limits),
            Err(BundleError::TooLarge { .. })
        )
    };
    // 64 MiB of zeros in a few kilobytes: as a file, and after the end of the tar's first entry.
    let zeros = vec![0_u8; 64 << 20];
    let manifest = manifest_of(&[]);
    let bomb = forge(&[
        (b"freehold-bundle.json", EntryType::Regular, &manifest),
        (b"migrations/V1__a.sql", EntryType::Regular, &zeros),
    ]);
    assert!(bomb.len() < 100_000);
    assert!(too_large(&bomb, Limits::default()));
    let small = Limits {
        file_bytes: 10,
        total_bytes: 15,
        files: 2,
        ..Limits::default()
    };
    let open = |files: &[(&str, &str)]| {
        let bundle = Bundle::from_files(files.iter().copied()).expect("a bundle");
        too_large(&bundle.to_archive(), small)
    };
    assert!(!open(&[("a", "1234567890"), ("b", "12345")]));
    assert!(open(&[("a", "12345678901")]));
    assert!(open(&[("a", "1234567890"), ("b", "123456")]));
    assert!(open(&[("a", ""), ("b", ""), ("c", "")]));
    let archive = Bundle::from_files([("a", "b")])
        .expect("a bundle")
        .to_archive();
    let tight = Limits {
        archive_bytes: archive.len() as u64 - 1,
        ..Limits::default()
    };
    assert!(too_large(&archive, tight));
}

#[test]
fn long_and_foreign_names_survive() {
    let long = format!("{}/V1__{}.sql", "d".repeat(150), "ä".repeat(60));
    let bundle = Bundle::from_files([(long.as_str(), "select 1;")]).expect("a bundle");
    let opened = Bundle::open(&bundle.to_archive()).expect("opens");
    assert_eq!(opened.file(&long), Some(&b"select 1;"[..]));
}
