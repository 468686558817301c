//! Who asks, as the server sees it: which permissions of a list are his.

use std::net::IpAddr;

use grange_proto::acl::{Acl, Id, Perms};

use crate::auth::Auth;
use crate::declared::acl::digest_id;
use crate::{Client, ClientError};

/// The scheme in which servers list the identity that may do everything.
const SUPER: &str = "super";

/// The identities of a session.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// What ACLs can name.
    ids: Vec<Id>,
    is_super: bool,
}

impl Caller {
    /// A caller with these identities, as far as they are known without asking: digests.
    pub fn of(auths: &[Auth]) -> Caller {
        let digest = |auth: &Auth| {
            let (user, password) = std::str::from_utf8(auth.credential()).ok()?.split_once(':')?;
            (auth.scheme() == "digest").then(|| digest_id(user, password))
        };
        Caller { ids: auths.iter().filter_map(digest).collect(), is_super: false }
    }

    /// Adds what the server says about the session: its address, names by SASL and certificates, the super identity.
    ///
    /// Servers before ZooKeeper 3.7 do not say it.
    pub async fn ask(mut self, client: &Client) -> Result<Caller, ClientError> {
        let users = match client.list_auth_users().await {
            Ok(users) => users,
            // Old servers answer what they do not know with an error or with nothing.
            Err(ClientError::Unimplemented | ClientError::UnmarshalError { .. }) => return Ok(self),
            Err(error) => return Err(error),
        };
        for user in users {
            match user.scheme() {
                SUPER => self.is_super = true,
                // Without the hash, and known already.
                "digest" | "auth" | "world" => {}
                scheme => self.ids.push(Id::new(scheme, user.user())),
            }
        }
        Ok(self)
    }

    /// Tells whether a list permits all of `perms` to the caller.
    pub fn may(&self, acls: &[Acl], perms: Perms) -> bool {
        let granted = acls.iter().filter(|acl| self.is(&acl.id)).fold(0, |granted, acl| granted | acl.perms.0);
        self.is_super || granted & perms.0 == perms.0
    }

    /// Returns the list as the server will store it: `auth` becomes the identities of the caller.
    ///
    /// `None` if there are none that could be stored.
    pub fn resolve(&self, acls: &[Acl]) -> Option<Vec<Acl>> {
        let mut resolved = Vec::with_capacity(acls.len());
        for acl in acls {
            if acl.id.scheme != "auth" {
                resolved.push(acl.clone());
                continue;
            }
            let mine = self.ids.iter().filter(|id| id.scheme != "ip").peekable();
            let before = resolved.len();
            resolved.extend(mine.map(|id| Acl { perms: acl.perms, id: id.clone() }));
            if resolved.len() == before {
                return None;
            }
        }
        Some(resolved)
    }

    /// Returns a list that gives everything to the caller alone; `None` if nobody can tell who that is.
    pub(crate) fn own_acl(&self) -> Option<Vec<Acl>> {
        let own = [Acl { perms: Perms::ALL, id: Id::new("auth", "") }];
        let address = || self.ids.first().map(|address| vec![Acl { perms: Perms::ALL, id: address.clone() }]);
        self.resolve(&own).or_else(address)
    }

    fn is(&self, id: &Id) -> bool {
        match id.scheme.as_str() {
            "world" => true,
            "auth" => self.ids.iter().any(|own| own.scheme != "ip"),
            "ip" => self.ids.iter().filter(|own| own.scheme == "ip").any(|own| is_in_network(&own.id, &id.id)),
            _ => self.ids.contains(id),
        }
    }
}

/// Tells whether an address is in `ADDRESS` or `ADDRESS/BITS`.
fn is_in_network(address: &str, network: &str) -> bool {
    let (base, bits) = network.split_once('/').map_or((network, None), |(base, bits)| (base, Some(bits)));
    let (Ok(address), Ok(base)) = (address.parse::<IpAddr>(), base.parse::<IpAddr>()) else { return false };
    let (address, base, width) = match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) => (u128::from(address.to_bits()), u128::from(base.to_bits()), 32),
        (IpAddr::V6(address), IpAddr::V6(base)) => (address.to_bits(), base.to_bits(), 128),
        _ => return false,
    };
    match bits.map_or(Ok(width), str::parse::<u32>) {
        Ok(bits) if bits <= width => (address ^ base).checked_shr(width - bits).unwrap_or(0) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::acl::parse_entry;

    fn list(entries: &[&str]) -> Vec<Acl> {
        entries.iter().map(|text| parse_entry(text).unwrap()).collect()
    }

    fn caller() -> Caller {
        let mut caller = Caller::of(&Auth::parse_lines("digest:super:test\nsasl:token", "test").unwrap());
        caller.ids.push(Id::new("ip", "10.1.2.3"));
        caller.ids.push(Id::new("x509", "CN=me"));
        caller
    }

    #[test]
    fn permissions_come_from_every_identity_together() {
        for (entries, letters, may) in [
            (&["world:anyone:r"][..], Perms::READ, true),
            (&["world:anyone:r"], Perms::ADMIN, false),
            (&["world:anyone:r", "digest:super:D/InIHSb7yEEbrWz8b9l71RjZJU=:a"], Perms(17), true),
            (&["digest:super:another=:a"], Perms::ADMIN, false),
            (&["ip:10.0.0.0/8:a"], Perms::ADMIN, true),
            (&["ip:10.1.2.3:a"], Perms::ADMIN, true),
            (&["ip:10.1.2.4:a"], Perms::ADMIN, false),
            (&["ip:0.0.0.0/0:a"], Perms::ADMIN, true),
            (&["ip:::/0:a"], Perms::ADMIN, false),
            (&["x509:CN=me:a"], Perms::ADMIN, true),
            (&["auth::a"], Perms::ADMIN, true),
        ] {
            assert_eq!(caller().may(&list(entries), letters), may, "{entries:?}");
        }
        assert!(Caller { ids: Vec::new(), is_super: true }.may(&[], Perms::ALL));
    }

    #[test]
    fn auth_becomes_every_identity_but_the_address() {
        let resolved = caller().resolve(&list(&["auth::rw", "world:anyone:r"])).unwrap();
        let expected = list(&["digest:super:D/InIHSb7yEEbrWz8b9l71RjZJU=:rw", "x509:CN=me:rw", "world:anyone:r"]);
        assert_eq!(resolved, expected);
        assert_eq!(Caller::default().resolve(&list(&["auth::rw"])), None);
    }
}
