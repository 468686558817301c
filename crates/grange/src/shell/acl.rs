//! ACLs as zkCli writes them: `SCHEME:ID:PERMS[,SCHEME:ID:PERMS…]`, permissions by the letters of `cdrwa`.

use std::str::FromStr;

use grange_client::{Acl, AuthId, Permission};

/// Parses a list. The identity may contain colons, as digests do.
pub(super) fn parse(text: &str) -> Result<Vec<Acl>, String> {
    text.split(',').map(parse_entry).collect()
}

fn parse_entry(text: &str) -> Result<Acl, String> {
    let wrong = || format!("'{text}' is not of the form SCHEME:ID:PERMS, such as world:anyone:cdrwa");
    let (scheme, rest) = text.trim().split_once(':').ok_or_else(wrong)?;
    let (id, letters) = rest.rsplit_once(':').ok_or_else(wrong)?;
    if scheme.is_empty() || letters.is_empty() {
        return Err(wrong());
    }
    let mut permissions = Permission::NONE;
    for letter in letters.chars() {
        permissions = permissions
            | match letter {
                'c' => Permission::CREATE,
                'd' => Permission::DELETE,
                'r' => Permission::READ,
                'w' => Permission::WRITE,
                'a' => Permission::ADMIN,
                other => return Err(format!("'{other}' in '{text}' is none of the permissions c, d, r, w and a")),
            };
    }
    Ok(Acl::new(permissions, AuthId::new(scheme, id)))
}

/// Writes an entry in the form that [`parse`] reads.
pub(super) fn format(acl: &Acl) -> String {
    format!("{}:{}:{}", acl.scheme(), acl.id(), letters(acl.permission()))
}

/// Returns the letters of permissions, in the order of `cdrwa`.
pub(super) fn letters(permission: Permission) -> String {
    let all = [
        ('c', Permission::CREATE),
        ('d', Permission::DELETE),
        ('r', Permission::READ),
        ('w', Permission::WRITE),
        ('a', Permission::ADMIN),
    ];
    all.into_iter().filter(|(_, one)| permission.has(*one)).map(|(letter, _)| letter).collect()
}

/// An ACL as an argument; a plain list would make the argument repeatable.
#[derive(Debug, Clone)]
pub(super) struct AclList(pub(super) Vec<Acl>);

impl FromStr for AclList {
    type Err = String;

    fn from_str(text: &str) -> Result<AclList, String> {
        parse(text).map(AclList)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_understood() {
        let acls = parse("world:anyone:r,digest:bob:hash=:cdrwa,auth::rw").unwrap();
        let found: Vec<_> = acls.iter().map(|acl| (acl.scheme(), acl.id(), acl.permission())).collect();
        assert_eq!(
            found,
            [
                ("world", "anyone", Permission::READ),
                ("digest", "bob:hash=", Permission::ALL),
                ("auth", "", Permission::READ | Permission::WRITE),
            ]
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["world:anyone:r", "digest:bob:hash=:cdrwa", "ip:10.0.0.0/8:rw"] {
            assert_eq!(format(&parse(text).unwrap()[0]), text);
        }
    }

    #[test]
    fn a_mistake_is_named() {
        assert!(parse("world:anyone:x").unwrap_err().contains("'x' in"));
        for text in ["", "world", "world:anyone", "world:anyone:", ":a:r", "world:anyone:r,"] {
            assert!(parse(text).unwrap_err().contains("is not of the form"), "{text:?}");
        }
    }
}
