//! Invitations: what one blank machine needs to join, in one line that can be piped.
//!
//! An invitation is an identity that the ACL of `/zookeeper/config` lets write and change the ACL. The new machine asks
//! for its own membership by it, and takes it out of the ACL afterwards. The servers do not know when it ends: its
//! user name says it, and whoever makes the next one sweeps what is past its end.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustix::rand::{GetRandomFlags, getrandom};
use sha1::{Digest, Sha1};
use zookeeper_client::{Acl, AuthId, Error as ClientError, Permission};

use super::change::{CONFIG_PATH, ChangeError, Ensemble};
use super::members::Members;
use crate::auth::Auth;
use crate::servers::Servers;

/// The first line of a token, with the version of its form.
const HEAD: &str = "grange-invitation 1";
/// The last line, which shows that nothing was cut off.
const END: &str = "end";
/// What starts the user name of an invitation; the second of its end since 1970 follows.
const USER_PREFIX: &str = "invite-";
/// Bytes of a secret: nobody guesses them.
const SECRET_BYTES: usize = 24;
/// The most text that is taken for a token; the lines of 255 servers fit.
const TOKEN_BYTES_MAX: usize = 64 << 10;
/// How often a change of the ACL is begun anew because somebody else has changed it.
const ACL_ATTEMPTS_MAX: u32 = 8;

/// What a token holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Where clients reach the ensemble.
    pub servers: Servers,
    /// The members when it was made.
    pub members: Members,
    /// Its end, in seconds since 1970.
    pub expires_s: u64,
    /// What is in the name so that two invitations of one second differ, and proves it.
    secret: String,
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("servers", &self.servers)
            .field("expires_s", &self.expires_s)
            .finish_non_exhaustive()
    }
}

/// Why a text is not a token. Never holds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is something else, or was cut.
    #[error("this is no join token, or a part of it is missing")]
    Damaged,
    /// A newer version made it.
    #[error("the join token is of a form that this version does not know")]
    Newer,
}

impl Invitation {
    /// Draws a new invitation for an ensemble; nobody knows of it yet.
    ///
    /// Errors: the system has no random number to give.
    pub fn draw(servers: Servers, members: Members, expires_s: u64) -> io::Result<Invitation> {
        let mut secret = [0; SECRET_BYTES];
        // Requests this small are answered whole.
        getrandom(&mut secret, GetRandomFlags::empty())?;
        Ok(Invitation { servers, members, expires_s, secret: URL_SAFE_NO_PAD.encode(secret) })
    }

    /// Writes the token: one line without blanks.
    pub fn encode(&self) -> String {
        let mut text =
            format!("{HEAD}\nservers={}\nexpires={}\nsecret={}\n", self.servers, self.expires_s, self.secret);
        for (id, spec) in &self.members.servers {
            writeln!(text, "server.{id}={spec}").expect("text takes everything");
        }
        text.push_str(END);
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a token; blanks around and line breaks inside of it are ignored.
    pub fn parse(token: &str) -> Result<Invitation, TokenError> {
        let token: String = token.chars().filter(|c| !c.is_whitespace()).collect();
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| TokenError::Damaged)?;
        let text = String::from_utf8(bytes).map_err(|_| TokenError::Damaged)?;
        let (head, rest) = text.split_once('\n').ok_or(TokenError::Damaged)?;
        if head != HEAD {
            let is_ours = HEAD.rsplit_once(' ').is_some_and(|(name, _)| head.starts_with(name));
            return Err(if is_ours { TokenError::Newer } else { TokenError::Damaged });
        }
        let lines = rest.strip_suffix(END).ok_or(TokenError::Damaged)?;
        let value = |key: &str| {
            let line = lines.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.ok_or(TokenError::Damaged)
        };
        Ok(Invitation {
            servers: Servers::parse(value("servers")?).map_err(|_| TokenError::Damaged)?,
            expires_s: value("expires")?.parse().map_err(|_| TokenError::Damaged)?,
            secret: value("secret")?.to_owned(),
            members: Members::parse(lines.as_bytes()).map_err(|_| TokenError::Damaged)?,
        })
    }

    /// Tells whether its end has come.
    pub fn is_expired(&self, now_s: u64) -> bool {
        now_s >= self.expires_s
    }

    /// Returns the identity.
    pub fn auth(&self) -> Auth {
        Auth::digest(&self.user(), &self.secret)
    }

    fn user(&self) -> String {
        format!("{USER_PREFIX}{}", self.expires_s)
    }

    /// Returns what the ACL calls the identity. Source: `DigestAuthenticationProvider.generateDigest`.
    fn acl_id(&self) -> String {
        let user = self.user();
        let hash = Sha1::digest(format!("{user}:{}", self.secret));
        format!("{user}:{}", STANDARD.encode(hash))
    }

    fn acl(&self) -> Acl {
        Acl::new(Permission::WRITE | Permission::ADMIN, AuthId::new("digest", &self.acl_id()))
    }
}

/// Returns the end of the invitation that an entry of an ACL stands for, if it is one.
fn end_of(acl: &Acl) -> Option<u64> {
    let user = acl.id().split(':').next()?;
    user.strip_prefix(USER_PREFIX)?.parse().ok().filter(|_| acl.scheme() == "digest")
}

impl Ensemble {
    /// Makes an invitation that ends `lifetime` after `now_s`, and sweeps those that are past their end.
    pub async fn invite(&self, now_s: u64, lifetime: Duration) -> Result<Invitation, ChangeError> {
        let members = self.members().await?;
        if members.servers.is_empty() {
            return Err(ChangeError::Alone);
        }
        let servers = self.client_addresses(&members);
        let expires_s = now_s.saturating_add(lifetime.as_secs());
        let invitation = Invitation::draw(servers, members, expires_s)
            .map_err(|error| ChangeError::Client(ClientError::UnexpectedError(error.to_string())))?;
        self.change_acl(|acl| {
            acl.retain(|entry| end_of(entry).is_none_or(|end_s| end_s > now_s));
            acl.push(invitation.acl());
        })
        .await?;
        Ok(invitation)
    }

    /// Takes all invitations back; returns how many there were.
    pub async fn revoke_invitations(&self) -> Result<usize, ChangeError> {
        let mut count = 0;
        self.change_acl(|acl| {
            let before = acl.len();
            acl.retain(|entry| end_of(entry).is_none());
            count = before - acl.len();
        })
        .await?;
        Ok(count)
    }

    /// Takes an invitation back, as the one who was invited. It is no error if somebody else has done it.
    pub async fn withdraw(&self, invitation: &Invitation) -> Result<(), ChangeError> {
        let id = invitation.acl_id();
        match self.change_acl(|acl| acl.retain(|entry| entry.id() != id)).await {
            Err(ChangeError::Denied) => Ok(()),
            other => other,
        }
    }

    async fn change_acl(&self, mut change: impl FnMut(&mut Vec<Acl>)) -> Result<(), ChangeError> {
        for _ in 0..ACL_ATTEMPTS_MAX {
            let (before, stat) = self.client.get_acl(CONFIG_PATH).await?;
            let mut acl = before.clone();
            change(&mut acl);
            if acl == before {
                return Ok(());
            }
            match self.client.set_acl(CONFIG_PATH, &acl, Some(stat.aversion)).await {
                Ok(_) => return Ok(()),
                Err(ClientError::BadVersion) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ChangeError::Changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation() -> Invitation {
        let members = Members::parse(b"server.1=a:1:2:participant;3\nserver.2=b:1:2:observer\n").unwrap();
        Invitation::draw(Servers::parse("a:3,[::1]:4").unwrap(), members, 1000).unwrap()
    }

    #[test]
    fn a_token_is_one_line_that_can_be_read_back() {
        let (invitation, other) = (invitation(), invitation());
        let token = invitation.encode();
        assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{token}");
        let wrapped = format!(" {}\n{} \n", &token[..40], &token[40..]);
        assert_eq!(Invitation::parse(&wrapped).unwrap(), invitation);
        assert_ne!(other.encode(), token, "no two have the same secret");
    }

    #[test]
    fn a_token_that_was_cut_is_refused_at_every_length() {
        let token = invitation().encode();
        for length in 0..token.len() {
            assert_eq!(Invitation::parse(&token[..length]), Err(TokenError::Damaged), "{length}");
        }
        let newer = URL_SAFE_NO_PAD.encode("grange-invitation 2\nend");
        assert_eq!(Invitation::parse(&newer), Err(TokenError::Newer));
    }

    #[test]
    fn it_ends() {
        assert!(!invitation().is_expired(999));
        assert!(invitation().is_expired(1000));
        assert_eq!(end_of(&invitation().acl()), Some(1000));
        assert_eq!(end_of(&Acl::new(Permission::ALL, AuthId::new("digest", "invited:x"))), None);
        assert_eq!(end_of(&Acl::new(Permission::ALL, AuthId::new("ip", "invite-1000"))), None);
    }

    #[test]
    fn the_secret_is_not_shown() {
        let invitation = invitation();
        assert!(!format!("{invitation:?} {:?}", invitation.auth()).contains(&invitation.secret));
        assert!(!invitation.acl_id().contains(&invitation.secret));
    }
}
