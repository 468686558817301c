//! Auth packets: credentials in, identities of the connection out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grange_proto::Id;
use grange_proto::request::Auth;
use grange_tree::Identities;
use sha1::{Digest, Sha1};

/// Returns the identity that a `user:password` stands for: `user:base64(SHA1(user:password))`.
///
/// Source: `DigestAuthenticationProvider.generateDigest`.
fn digest_id(credentials: &[u8]) -> String {
    let hash = STANDARD.encode(Sha1::digest(credentials));
    let user = credentials.split(|&byte| byte == b':').next().unwrap_or_default();
    format!("{}:{hash}", String::from_utf8_lossy(user))
}

/// Adds what an auth packet proves to `identities`; returns false if it proves nothing.
pub(crate) fn authenticate(auth: &Auth<'_>, super_digest: Option<&str>, identities: &mut Identities) -> bool {
    match (auth.scheme, auth.credentials) {
        (Some(b"digest"), Some(credentials)) => {
            let id = digest_id(credentials);
            if super_digest == Some(id.as_str()) {
                identities.add(Id::new("super", ""));
            }
            identities.add(Id::new("digest", id));
            true
        }
        // The address was added when the connection came; asking for it again is no mistake.
        (Some(b"ip"), _) => true,
        _ => false,
    }
}

/// Returns the user of an identity as whoAmI shows it: a digest's hash stays out.
pub(crate) fn user_name(id: &Id) -> &str {
    if id.scheme == "digest" { id.id.split(':').next().unwrap_or_default() } else { &id.id }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth<'a>(scheme: &'a str, credentials: &'a [u8]) -> Auth<'a> {
        Auth { kind: 0, scheme: Some(scheme.as_bytes()), credentials: Some(credentials) }
    }

    #[test]
    fn a_digest_is_the_one_that_other_servers_make() {
        // `super:admin` as Apache's DigestAuthenticationProvider prints it.
        assert_eq!(digest_id(b"super:admin"), "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=");
    }

    #[test]
    fn the_configured_digest_is_super() {
        let mut identities = Identities::new();
        assert!(authenticate(&auth("digest", b"super:admin"), Some("super:other"), &mut identities));
        assert!(!identities.is_super());
        assert!(authenticate(
            &auth("digest", b"super:admin"),
            Some("super:xQJmxLMiHGwaqBvst5y6rkB6HQs="),
            &mut identities
        ));
        assert!(identities.is_super());
    }

    #[test]
    fn an_unknown_scheme_proves_nothing() {
        let mut identities = Identities::new();
        assert!(!authenticate(&auth("magic", b"x"), None, &mut identities));
        for (scheme, credentials) in [(Some(&b"digest"[..]), None), (None, Some(&b"x"[..])), (Some(b"\xff"), None)] {
            assert!(!authenticate(&Auth { kind: 0, scheme, credentials }, None, &mut identities));
        }
        assert_eq!(identities.iter().count(), 0);
    }
}
