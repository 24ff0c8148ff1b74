//! Signatures of models, their statements, keys and certificates.

use std::sync::LazyLock;

use smolt::trust::{Authority, Bundle, CertificateChain, Manifest, PublicKey, SigningKey};

use super::input::parts;

/// Public keys and certificates by which bundles are judged, so that what is behind a signature is read too.
static TRUSTED: LazyLock<Vec<Authority>> = LazyLock::new(|| {
    let texts = [
        include_str!("../../tests/data/oms/keys/p256.pub.pem"),
        include_str!("../../tests/data/oms/certificates/root.pem"),
        include_str!("../../tests/data/oms/certificates/rsa-root.pem"),
    ];
    texts
        .iter()
        .map(|text| Authority::parse(text, "trusted").expect("the keys of the tests are keys"))
        .collect()
});

/// A bundle; a statement, as its signature was right; keys and certificates in PEM; and a certificate or key in DER.
pub fn signature(data: &[u8]) -> bool {
    let [bundle, statement, pem, der] = parts(data);
    let pem = String::from_utf8_lossy(pem);
    let chains = [CertificateChain::from_pem(&pem, "pem"), CertificateChain::from_pem(&armoured(der), "der")];
    let mut taken = false;
    if let Ok(bundle) = Bundle::parse(bundle, "bundle") {
        taken = true;
        let again = Bundle::parse(bundle.to_json().as_bytes(), "again").expect("what was written is read");
        assert_eq!(again.material(), bundle.material());
        for authority in &*TRUSTED {
            if let Ok(manifest) = authority.check(std::slice::from_ref(&bundle), None) {
                assert!(!manifest.signers().is_empty());
            }
        }
        for chain in chains.iter().flatten() {
            let _ = chain.verify(&bundle, Some(std::time::SystemTime::UNIX_EPOCH));
        }
    }
    if let Ok(manifest) = Manifest::read_unsigned(statement, "statement") {
        taken = true;
        for resource in manifest.resources() {
            assert!(!manifest.of_file(&resource.path).is_empty());
        }
    }
    let _ = SigningKey::from_pem(&pem, "pem").map(|key| key.public().fingerprint());
    let keys = [PublicKey::from_pem(&pem, "pem"), PublicKey::from_der(der, "der")];
    for key in keys.iter().flatten() {
        let again = PublicKey::from_pem(&key.to_pem(), "again").expect("what was written is read");
        assert_eq!(again.fingerprint(), key.fingerprint());
    }
    taken || chains.iter().any(Result::is_ok) || keys.iter().any(Result::is_ok)
}

/// A certificate in PEM.
fn armoured(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for chunk in der.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { digit.into() } else { '=' });
        }
    }
    text + "\n-----END CERTIFICATE-----\n"
}
