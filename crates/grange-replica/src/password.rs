//! Passwords of sessions: a keyed code of the session's number, so that no member has to remember them.

use grange_proto::SessionId;
use grange_proto::connect::PASSWORD_BYTES;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Makes and checks passwords.
pub(crate) struct Passwords {
    keyed: Hmac<Sha256>,
}

impl Passwords {
    /// Takes the ensemble's key.
    pub(crate) fn new(key: &[u8; 32]) -> Passwords {
        Passwords { keyed: Hmac::new_from_slice(key).expect("the code takes keys of any length") }
    }

    /// Returns the password of `session`.
    pub(crate) fn of(&self, session: SessionId) -> [u8; PASSWORD_BYTES] {
        let code = self.code(session).finalize().into_bytes();
        code[..PASSWORD_BYTES].try_into().expect("the code is longer than a password")
    }

    /// Returns true if `password` is the session's; takes as long for a wrong one as for the right one.
    pub(crate) fn verify(&self, session: SessionId, password: &[u8]) -> bool {
        password.len() == PASSWORD_BYTES && self.code(session).verify_truncated_left(password).is_ok()
    }

    fn code(&self, session: SessionId) -> Hmac<Sha256> {
        let mut code = self.keyed.clone();
        code.update(&session.0.to_be_bytes());
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_password_of_the_session_will_do() {
        let passwords = Passwords::new(&[7; 32]);
        let right = passwords.of(SessionId(1));
        assert!(passwords.verify(SessionId(1), &right));
        assert!(!passwords.verify(SessionId(2), &right));
        assert!(!passwords.verify(SessionId(1), &right[..8]));
        assert!(!passwords.verify(SessionId(1), &[]));
        assert!(!Passwords::new(&[8; 32]).verify(SessionId(1), &right));
    }
}
