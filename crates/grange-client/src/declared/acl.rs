//! Entries of ACLs as text, and which lists mean the same.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use grange_proto::acl::{Acl, Id, Perms};
use sha1::{Digest, Sha1};

/// Permissions with their letters, in the order in which zkCli writes them.
const LETTERS: [(char, Perms); 5] =
    [('c', Perms::CREATE), ('d', Perms::DELETE), ('r', Perms::READ), ('w', Perms::WRITE), ('a', Perms::ADMIN)];

/// What servers show in place of a hash to those who may not see it.
const HIDDEN_HASH: &str = "x";

/// Parses permissions; at least one letter.
///
/// Errors: the first letter that is none.
pub(crate) fn parse_letters(text: &str) -> Result<Perms, char> {
    text.chars().try_fold(Perms(0), |perms, letter| {
        let known = LETTERS.iter().find(|(known, _)| *known == letter);
        known.map(|(_, perm)| perms.union(*perm)).ok_or(letter)
    })
}

/// Writes permissions.
pub(crate) fn letters(perms: Perms) -> String {
    LETTERS.iter().filter(|(_, perm)| perms.intersects(*perm)).map(|(letter, _)| letter).collect()
}

/// Splits `SCHEME:ID:PERMS`; the identity may contain colons.
///
/// Errors: what is wrong, in words, without the identity, which may be a hash.
pub(crate) fn parse_entry(text: &str) -> Result<Acl, String> {
    let wrong = || "an entry is SCHEME:ID:PERMS, such as world:anyone:r".to_owned();
    let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (id, perms) = rest.rsplit_once(':').ok_or_else(wrong)?;
    if scheme.is_empty() || perms.is_empty() {
        return Err(wrong());
    }
    let perms = parse_letters(perms)
        .map_err(|letter| format!("'{}' is none of the permissions c, d, r, w and a", letter.escape_debug()))?;
    let problem = match scheme {
        "world" if id != "anyone" => Some("the only identity of world is anyone"),
        "auth" if !id.is_empty() => Some("auth has no identity: auth::PERMS"),
        "digest" if user_of(id) == id => {
            Some("an identity of digest is USER:HASH; with a password, declare the user and write user:NAME:PERMS")
        }
        "auth" | "world" | "digest" => None,
        _ if id.is_empty() => Some("the identity is missing"),
        _ => None,
    };
    match problem {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(Acl { perms, id: Id::new(scheme, id) }),
    }
}

/// Writes an entry so that [`parse_entry`] gives it back.
pub(crate) fn entry(acl: &Acl) -> String {
    format!("{}:{}:{}", acl.id.scheme, acl.id.id, letters(acl.perms))
}

/// Returns the identity of a digest user.
pub(crate) fn digest_id(user: &str, password: &str) -> Id {
    let mut hash = Sha1::new();
    hash.update(user.as_bytes());
    hash.update(b":");
    hash.update(password.as_bytes());
    Id::new("digest", format!("{user}:{}", BASE64_STANDARD.encode(hash.finalize())))
}

/// Returns an identity for a person: `SCHEME:ID`, of a digest without the hash.
pub(crate) fn shown(id: &Id) -> String {
    match id.scheme.as_str() {
        "digest" => format!("digest:{}", user_of(&id.id)),
        scheme => format!("{scheme}:{}", id.id),
    }
}

fn user_of(digest_id: &str) -> &str {
    digest_id.split_once(':').map_or(digest_id, |(user, _)| user)
}

/// What a list permits: the permissions of each identity. Two lists with the same rights are the same to a server.
pub(crate) type Rights = BTreeMap<(String, String), i32>;

/// Returns what a list permits.
pub(crate) fn rights(acls: &[Acl]) -> Rights {
    let mut rights = Rights::new();
    for acl in acls.iter().filter(|acl| acl.perms.intersects(Perms::ALL)) {
        *rights.entry((acl.id.scheme.clone(), acl.id.id.clone())).or_default() |= acl.perms.0 & Perms::ALL.0;
    }
    rights
}

/// Tells whether a server has hidden the hashes of a list, as it does for those who may not change it.
pub(crate) fn has_hidden_hashes(acls: &[Acl]) -> bool {
    acls.iter().any(|acl| acl.id.scheme == "digest" && acl.id.id.ends_with(&format!(":{HIDDEN_HASH}")))
}

/// Returns the list as a server shows it to those who may not change it.
pub(crate) fn with_hidden_hashes(acls: &[Acl]) -> Vec<Acl> {
    let hide = |acl: &Acl| match acl.id.scheme.as_str() {
        "digest" => Acl { perms: acl.perms, id: Id::new("digest", format!("{}:{HIDDEN_HASH}", user_of(&acl.id.id))) },
        _ => acl.clone(),
    };
    acls.iter().map(hide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_understood_and_written_again() {
        for text in [
            "world:anyone:r",
            "digest:bob:hash=:cdrwa",
            "auth::rw",
            "ip:10.0.0.0/8:r",
            "x509:CN=a,O=b:w",
            "sasl:a/b@C:d",
        ] {
            assert_eq!(entry(&parse_entry(text).unwrap()), text);
        }
    }

    #[test]
    fn a_mistake_is_named_without_the_identity() {
        for (text, message) in [
            ("", "an entry is"),
            ("world", "an entry is"),
            (":secret:r", "an entry is"),
            ("world:anyone:", "an entry is"),
            ("world:secret:r", "the only identity"),
            ("world:anyone:rx", "'x' is none of the permissions"),
            ("digest:secret:r", "is USER:HASH"),
            ("auth:secret:r", "auth has no identity"),
            ("sasl::r", "the identity is missing"),
        ] {
            let error = parse_entry(text).unwrap_err();
            assert!(error.contains(message) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_digest_is_that_of_zookeeper() {
        // The example of ZooKeeper's manual for the super user.
        assert_eq!(digest_id("super", "test").id, "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
    }

    #[test]
    fn lists_with_the_same_rights_are_the_same() {
        let list = |entries: &[&str]| entries.iter().map(|text| parse_entry(text).unwrap()).collect::<Vec<_>>();
        assert_eq!(rights(&list(&["sasl:a:r", "sasl:b:r", "sasl:a:w"])), rights(&list(&["sasl:b:r", "sasl:a:rw"])));
        assert_ne!(rights(&list(&["sasl:a:r"])), rights(&list(&["x509:a:r"])));
    }
}
