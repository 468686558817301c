//! Random numbers of the system.

use std::io;

/// Draws bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // Requests this small are answered whole.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}

/// Draws a number to spread pauses with; 0 if the system has none to give.
pub(crate) fn small() -> u16 {
    bytes().map_or(0, u16::from_ne_bytes)
}
