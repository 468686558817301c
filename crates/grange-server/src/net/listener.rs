//! The socket that clients connect to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Listen;

/// Why clients cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another socket has the port.
    #[error("{address} is in use by another program; choose another port, or find it with: ss -ltnp 'sport = :{}'", .address.port())]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The name of the address is not known.
    #[error("cannot find the address of {name}")]
    Name {
        /// The name.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot listen on {address}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// A port that is taken, but where nobody can connect yet.
///
/// So a mistake in the address shows at once, and clients try other servers while this one reads its data.
#[derive(Debug)]
pub(crate) struct BoundPort {
    socket: Socket,
    address: SocketAddr,
    backlog: i32,
}

impl BoundPort {
    /// Takes the port. The unspecified IPv6 address takes IPv4 too, and stands back where there is no IPv6.
    pub(crate) fn bind(listen: Listen) -> Result<BoundPort, ListenError> {
        let Listen { address, backlog } = listen;
        let bound = match try_bind(address) {
            Err(error) if is_any_v6(address) && lacks_v6(&error) => {
                try_bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
            }
            result => result,
        };
        let (socket, address) = bound.map_err(|source| refusal(address, source))?;
        Ok(BoundPort { socket, address, backlog })
    }

    /// Returns the address; its port is never 0.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets clients connect.
    pub(crate) fn listen(self) -> Result<std::net::TcpListener, ListenError> {
        self.socket.listen(self.backlog).map_err(|source| refusal(self.address, source))?;
        Ok(self.socket.into())
    }
}

fn refusal(address: SocketAddr, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        _ => ListenError::Refused { address, source },
    }
}

fn try_bind(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if is_any_v6(address) {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    // Connections inherit it, which spares each of them a system call.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok((socket, address))
}

fn is_any_v6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

fn lacks_v6(error: &io::Error) -> bool {
    let missing = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| missing.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_send_small_answers_at_once() {
        let port = BoundPort::bind(Listen { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), backlog: 1 }).unwrap();
        let address = port.address();
        let listener = port.listen().unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
