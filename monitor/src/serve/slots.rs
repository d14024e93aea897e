//! Who may hold how many connections of a server: everybody is let in at once, and when there are too many, whoever holds most gives
//! up the oldest of theirs. So nobody keeps anybody else out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::sync::Notify;

/// Whose a connection is, as far as others cannot choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A user of this host.
    User(u32),
    /// A client of another host: its address, or its network of 64 bits.
    Network(IpAddr),
}

impl Holder {
    /// The client with this address. All of this host's own are one: anybody can choose among them.
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Self::Network(Ipv4Addr::LOCALHOST.into());
        }
        Self::Network(match address {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            four @ IpAddr::V4(_) => four,
        })
    }
}

/// The connections that are open, from the oldest on, each with what cuts it.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    next: u64,
    open: BTreeMap<u64, (Holder, Arc<Notify>)>,
}

impl Slots {
    /// None; there are to be at most `most`.
    pub fn new(most: usize) -> Self {
        Self { most, next: 0, open: BTreeMap::new() }
    }

    /// A connection comes; another one may be cut for it. Returns its number.
    pub fn take(&mut self, holder: Holder, cut: Arc<Notify>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, (holder, cut));
        while self.open.len() > self.most
            && let Some(number) = self.worst()
        {
            let given_up = self.open.remove(&number);
            if let Some((holder, cut)) = given_up {
                tracing::debug!(?holder, "too many connections: the oldest is cut");
                cut.notify_one();
            }
        }
        number
    }

    /// A connection has ended.
    pub fn give_back(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// The oldest connection of the holder of most; of several that hold as many root comes last.
    fn worst(&self) -> Option<u64> {
        let mut held: HashMap<Holder, usize> = HashMap::new();
        for (holder, _) in self.open.values() {
            *held.entry(*holder).or_default() += 1;
        }
        let weight = |holder: &Holder| (held.get(holder).copied().unwrap_or(0), *holder != Holder::User(0));
        // the first of several that are equal
        self.open.iter().rev().max_by_key(|(_, (holder, _))| weight(holder)).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of those that are still open.
    fn open(slots: &Slots) -> Vec<u64> {
        slots.open.keys().copied().collect()
    }

    #[test]
    fn who_holds_most_gives_up_the_oldest() {
        let mut slots = Slots::new(4);
        let take = |slots: &mut Slots, user| slots.take(Holder::User(user), Arc::default());
        for _ in 0..6 {
            take(&mut slots, 7);
        }
        assert_eq!(open(&slots), [2, 3, 4, 5], "their own");
        take(&mut slots, 0);
        take(&mut slots, 8);
        assert_eq!(open(&slots), [4, 5, 6, 7], "for others");
        take(&mut slots, 9);
        assert_eq!(open(&slots), [5, 6, 7, 8], "down to the same number");
        for _ in 0..9 {
            take(&mut slots, 7);
        }
        assert_eq!(open(&slots), [6, 7, 8, 17], "who comes back often cuts nobody else");
        slots.give_back(17);
        take(&mut slots, 10);
        assert_eq!(open(&slots), [6, 7, 8, 18]);
        // four with one each: the oldest goes, but root
        take(&mut slots, 11);
        assert_eq!(open(&slots), [6, 8, 18, 19]);
    }

    #[test]
    fn what_is_cut_is_told() {
        let mut slots = Slots::new(1);
        let first = Arc::new(Notify::new());
        slots.take(Holder::User(1), Arc::clone(&first));
        slots.take(Holder::User(2), Arc::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(first.notified());
    }

    #[test]
    fn addresses_that_anybody_can_choose_are_one_holder() {
        let of = |text: &str| Holder::of(text.parse().unwrap());
        assert_eq!(of("127.0.0.1"), of("127.9.8.7"));
        assert_eq!(of("127.0.0.1"), of("::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
