//! Which servers are linked: the one place that decides what the replica hears about links.
//!
//! A link is two connections, one for each direction. It is up when both stand and lead to the same process, and it
//! goes down as a whole: when one connection breaks, the other is closed too, so that both sides see the same, and
//! nothing is delivered between [`Event::PeerDown`] and the next [`Event::PeerUp`].

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use grange_replica::{Event, MemberId};

use super::dialer::Dialer;
use super::hello::{ClusterId, Identity};
use super::outgoing::Outgoing;
use super::{EARLY_BYTES_MAX, PeerStats};
use crate::mailbox::Mailbox;

/// Tells connections apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnNumber(u64);

/// Every server that is linked or dialled.
#[derive(Debug)]
pub(super) struct Registry {
    state: Mutex<State>,
    inbox: Arc<Mailbox<Event>>,
    /// Bytes of messages in the inbox.
    inbox_bytes: AtomicUsize,
    stats: Arc<PeerStats>,
}

#[derive(Debug)]
struct State {
    own: Identity,
    slots: BTreeMap<u8, Slot>,
    conn_count: u64,
    stopped: bool,
}

/// What there is of one server number.
#[derive(Debug, Default)]
struct Slot {
    dialer: Option<Arc<Dialer>>,
    /// False if it was never named, neither by the configuration nor as a member: it called.
    is_named: bool,
    outgoing: Option<OutConn>,
    incoming: Option<InConn>,
    /// The member that the replica was told of.
    up: Option<MemberId>,
}

#[derive(Debug)]
struct OutConn {
    number: ConnNumber,
    peer: Identity,
    link: Arc<Outgoing>,
}

#[derive(Debug)]
struct InConn {
    number: ConnNumber,
    peer: Identity,
    socket: TcpStream,
    /// What arrived before the link was up.
    early: Vec<Event>,
    early_bytes: usize,
}

/// What became of events that were to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The replica has them, or will have them when the link is up.
    Done,
    /// The connection is not part of a link any more.
    Closed,
}

impl Registry {
    pub(super) fn new(own: Identity, inbox: Arc<Mailbox<Event>>, stats: Arc<PeerStats>) -> Registry {
        let state = State { own, slots: BTreeMap::new(), conn_count: 0, stopped: false };
        Registry { state: Mutex::new(state), inbox, inbox_bytes: AtomicUsize::new(0), stats }
    }

    /// Returns the bytes of messages that the replica has not taken.
    pub(super) fn inbox_bytes(&self) -> usize {
        self.inbox_bytes.load(Ordering::Relaxed)
    }

    /// Notes that the replica has taken messages.
    pub(super) fn taken(&self, bytes: usize) {
        self.inbox_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns what this server says about itself.
    pub(super) fn own(&self) -> Identity {
        self.lock().own.clone()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Notes that this server has data now.
    pub(super) fn has_data(&self) {
        self.lock().own.is_blank = false;
    }

    /// Notes which ensemble this server belongs to, and ends links to servers of others.
    pub(super) fn set_cluster_id(&self, id: ClusterId) {
        let mut state = self.lock();
        state.own.cluster_id = Some(id);
        let State { own, slots, .. } = &mut *state;
        for slot in slots.values_mut() {
            let strange = slot.peers().find_map(|peer| own.check(peer).err());
            if let Some(why) = strange {
                self.close(slot, &why);
            }
        }
    }

    /// Tells whether a server with this number is dialled.
    pub(super) fn dialer(&self, server_id: u8) -> Option<Arc<Dialer>> {
        self.lock().slots.get(&server_id).and_then(|slot| slot.dialer.clone())
    }

    /// Adds a dialler for a server, whose link it will be part of. Fails if there is one, or everything has stopped.
    pub(super) fn add_dialer(&self, server_id: u8, dialer: &Arc<Dialer>, is_named: bool) -> bool {
        let mut state = self.lock();
        let stopped = state.stopped;
        let slot = state.slots.entry(server_id).or_default();
        let added = !stopped && slot.dialer.is_none();
        if added {
            slot.dialer = Some(Arc::clone(dialer));
        }
        slot.is_named |= is_named;
        added
    }

    /// Ends the links to servers that `is_kept` does not name.
    pub(super) fn retain(&self, is_kept: impl Fn(u8) -> bool) {
        self.lock().slots.retain(|server_id, slot| {
            let stays = is_kept(*server_id) || !slot.is_named;
            if !stays {
                self.drop_slot(slot, "it is not a member any more");
            }
            stays
        });
    }

    /// Takes in a connection that this server dialled.
    pub(super) fn add_outgoing(&self, peer: Identity, link: &Arc<Outgoing>) -> Option<ConnNumber> {
        let mut state = self.lock();
        if state.stopped {
            return None;
        }
        let number = state.next_number();
        let slot = state.slots.entry(peer.member.server_id).or_default();
        let is_stale = |incoming: &InConn| !is_same_process(&incoming.peer, &peer);
        if slot.outgoing.is_some() || slot.incoming.as_ref().is_some_and(is_stale) {
            self.close(slot, "a newer connection took its place");
        }
        slot.outgoing = Some(OutConn { number, peer, link: Arc::clone(link) });
        self.bring_up(slot);
        Some(number)
    }

    /// Takes in a connection that another server dialled.
    pub(super) fn add_incoming(&self, peer: Identity, socket: TcpStream) -> Option<ConnNumber> {
        let mut state = self.lock();
        if state.stopped {
            return None;
        }
        let number = state.next_number();
        let slot = state.slots.entry(peer.member.server_id).or_default();
        let is_stale = |outgoing: &OutConn| !is_same_process(&outgoing.peer, &peer);
        if slot.incoming.is_some() || slot.outgoing.as_ref().is_some_and(is_stale) {
            self.close(slot, "a newer connection took its place");
        }
        slot.incoming = Some(InConn { number, peer, socket, early: Vec::new(), early_bytes: 0 });
        match &slot.dialer {
            // It is there, so there is no reason to wait any longer.
            Some(dialer) if slot.outgoing.is_none() => dialer.hurry(),
            _ => {}
        }
        self.bring_up(slot);
        Some(number)
    }

    /// Gives the replica what arrived on a connection, or keeps it until the link is up.
    pub(super) fn deliver(&self, server_id: u8, number: ConnNumber, events: &mut Vec<Event>) -> Delivery {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&server_id) else { return Delivery::Closed };
        match &mut slot.incoming {
            Some(incoming) if incoming.number == number => {
                let bytes = events.iter().map(message_bytes).sum::<usize>();
                if slot.up.is_some() {
                    self.inbox_bytes.fetch_add(bytes, Ordering::Relaxed);
                    self.inbox.append(events);
                    return Delivery::Done;
                }
                incoming.early_bytes += bytes;
                incoming.early.append(events);
                if incoming.early_bytes <= EARLY_BYTES_MAX {
                    return Delivery::Done;
                }
                self.close(slot, "it sends before it can be answered");
                Delivery::Closed
            }
            _ => Delivery::Closed,
        }
    }

    /// Ends the link that a connection was part of; does nothing if it is not any more.
    pub(super) fn lost(&self, server_id: u8, number: ConnNumber, why: &str) {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&server_id) else { return };
        let outgoing = slot.outgoing.as_ref().map(|outgoing| outgoing.number);
        let incoming = slot.incoming.as_ref().map(|incoming| incoming.number);
        if outgoing == Some(number) || incoming == Some(number) {
            self.close(slot, why);
            if !slot.is_named {
                // It called; if it is still there it calls again.
                self.drop_slot(slot, why);
                state.slots.remove(&server_id);
            }
        }
    }

    /// Returns the way to a member that is linked.
    pub(super) fn way_to(&self, member: MemberId) -> Option<(u8, ConnNumber, Arc<Outgoing>)> {
        let state = self.lock();
        let (server_id, slot) = state.slots.iter().find(|(_, slot)| slot.up == Some(member))?;
        let outgoing = slot.outgoing.as_ref()?;
        Some((*server_id, outgoing.number, Arc::clone(&outgoing.link)))
    }

    /// Ends every link, without a word to the replica.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        for slot in state.slots.values_mut() {
            slot.up = None;
            self.drop_slot(slot, "this server stops");
        }
    }

    fn bring_up(&self, slot: &mut Slot) {
        let (Some(outgoing), Some(incoming)) = (&slot.outgoing, &mut slot.incoming) else { return };
        // The one that came last knows best whether it has data.
        let newest = if outgoing.number.0 > incoming.number.0 { &outgoing.peer } else { &incoming.peer };
        let member = newest.member.clone();
        tracing::info!(server = member.server_id, member = %member.id, blank = newest.is_blank, "a server is linked");
        slot.up = Some(member.id);
        self.stats.links.add(1);
        self.inbox.push(Event::PeerUp { member, is_blank: newest.is_blank });
        self.inbox_bytes.fetch_add(std::mem::take(&mut incoming.early_bytes), Ordering::Relaxed);
        self.inbox.append(&mut incoming.early);
    }

    fn drop_slot(&self, slot: &mut Slot, why: &str) {
        self.close(slot, why);
        if let Some(dialer) = slot.dialer.take() {
            dialer.stop();
        }
    }

    fn close(&self, slot: &mut Slot, why: &str) {
        let server_id = slot.peers().next().map(|peer| peer.member.server_id);
        if let Some(outgoing) = slot.outgoing.take() {
            outgoing.link.close();
        }
        if let Some(incoming) = slot.incoming.take() {
            // It may be closed already.
            let _ = incoming.socket.shutdown(Shutdown::Both);
        }
        if let Some(member) = slot.up.take() {
            tracing::info!(server = server_id, %member, why, "the link to a server is lost");
            self.inbox.push(Event::PeerDown(member));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic while links change ends the server")
    }
}

impl State {
    fn next_number(&mut self) -> ConnNumber {
        self.conn_count += 1;
        ConnNumber(self.conn_count)
    }
}

impl Slot {
    fn peers(&self) -> impl Iterator<Item = &Identity> {
        let outgoing = self.outgoing.as_ref().map(|outgoing| &outgoing.peer);
        outgoing.into_iter().chain(self.incoming.as_ref().map(|incoming| &incoming.peer))
    }
}

fn is_same_process(one: &Identity, other: &Identity) -> bool {
    (one.member.id, one.run) == (other.member.id, other.run)
}

fn message_bytes(event: &Event) -> usize {
    match event {
        Event::Peer { message, .. } => message.len(),
        _ => 0,
    }
}
