//! Releases, trust files and packages.

use smolt::trust::{Head, Policy, Release};

/// What comes first of an update: a release, a trust file, or all of an archive before its model.
pub fn package(data: &[u8]) -> bool {
    match data.split_first() {
        Some((b'r', release)) => Release::parse(release).is_ok_and(|release| {
            let again = Release::parse(release.to_json().as_bytes());
            assert_eq!(again.ok().as_ref(), Some(&release));
            true
        }),
        Some((b't', policy)) => Policy::parse(policy).is_ok(),
        Some((b'h', bytes)) => Head::read(&mut &bytes[..], "input").is_ok_and(|head| {
            assert!(bytes.starts_with(head.bytes()));
            true
        }),
        _ => false,
    }
}
