//! What a host is called in its farms when nobody says another name.

use std::io;
use std::net::UdpSocket;

/// Where the default route is asked for; nothing is sent there. Source: ZkFarmer's `ip`.
const FAR_AWAY: (&str, u16) = ("239.255.0.0", 9);

/// Returns the source address of this host's default route.
///
/// Errors: there is no route.
pub fn own_name() -> io::Result<String> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect(FAR_AWAY)?;
    Ok(socket.local_addr()?.ip().to_string())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn it_is_an_address_where_there_is_a_route() {
        if let Ok(name) = own_name() {
            assert!(name.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified()), "{name}");
        }
    }
}
