//! The connections whose request has not come whole, oldest first: they cost little, and make room for others.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Bytes that all of them together may have sent.
const MOST_BYTES: usize = 8 << 20;

/// Connections that are waited for.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    waiting: Mutex<Waiting>,
    /// Bytes that they have sent and that are kept.
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By age; dropping a sender sends its connection away.
    members: BTreeMap<u64, (Instant, oneshot::Sender<Infallible>)>,
}

/// A connection's place among those that are waited for; it is left when dropped.
#[derive(Debug)]
pub(super) struct Member {
    crowd: Arc<Crowd>,
    number: u64,
    sent_away: oneshot::Receiver<Infallible>,
}

impl Crowd {
    pub(super) fn new(most: usize) -> Arc<Crowd> {
        Arc::new(Crowd { most: most.max(1), waiting: Mutex::default(), bytes: AtomicUsize::new(0) })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more in; where there are too many, the oldest is sent away.
    pub(super) fn enter(self: &Arc<Self>) -> Member {
        let (sender, sent_away) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.members.len() >= self.most {
            waiting.members.pop_first();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.members.insert(number, (Instant::now(), sender));
        Member { crowd: Arc::clone(self), number, sent_away }
    }

    /// Sends away the oldest if it has been here for so long; whether it has.
    pub(super) fn send_away(&self, since: Duration) -> bool {
        let mut waiting = self.waiting();
        match waiting.members.first_entry() {
            Some(oldest) if oldest.get().0.elapsed() >= since => {
                oldest.remove();
                true
            }
            _ => false,
        }
    }

    /// Begins to keep what one of them sends.
    pub(super) fn keep(self: &Arc<Self>) -> Kept {
        Kept { crowd: Arc::clone(self), bytes: 0 }
    }

    /// Sends all away.
    pub(super) fn send_all_away(&self) {
        self.waiting().members.clear();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.waiting().members.len()
    }
}

/// What one of them has sent; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Kept {
    crowd: Arc<Crowd>,
    bytes: usize,
}

impl Kept {
    /// Keeps so many bytes more. Where all have sent too much together, the oldest is sent away.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.crowd.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > MOST_BYTES {
            self.crowd.send_away(Duration::ZERO);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.crowd.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Member {
    /// Waits until the connection has to go.
    pub(super) async fn sent_away(&mut self) {
        // Nothing is ever sent: what comes is the end of the sender.
        _ = (&mut self.sent_away).await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.waiting().members.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_away(member: &mut Member) -> bool {
        !matches!(member.sent_away.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    #[test]
    fn the_oldest_makes_room() {
        let crowd = Crowd::new(2);
        let (mut first, second) = (crowd.enter(), crowd.enter());
        assert!(!is_away(&mut first));
        let mut third = crowd.enter();
        assert_eq!((is_away(&mut first), crowd.len()), (true, 2));
        drop((first, second));
        assert_eq!((is_away(&mut third), crowd.len()), (false, 1));
        assert!(!crowd.send_away(Duration::from_secs(60)));
        assert!(crowd.send_away(Duration::ZERO));
        assert!(is_away(&mut third) && !crowd.send_away(Duration::ZERO));
        let (mut fourth, mut fifth) = (crowd.enter(), crowd.enter());
        let mut kept = (crowd.keep(), crowd.keep());
        kept.0.add(MOST_BYTES);
        kept.1.add(1);
        assert_eq!((is_away(&mut fourth), is_away(&mut fifth)), (true, false));
        drop(kept.0);
        kept.1.add(MOST_BYTES - 1);
        assert!(!is_away(&mut fifth));
        let mut fourth = crowd.enter();
        crowd.send_all_away();
        assert_eq!((is_away(&mut fourth), crowd.len()), (true, 0));
    }
}
