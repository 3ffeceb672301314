//! Keeps the lease clock in step with the log and with leadership.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metastore_state_machine::{Effect, Effects};
use tokio::sync::Notify;

use crate::lease_clock::Running;
use crate::node::Node;

/// The pause before a new leader tries again to take office.
const AGAIN: Duration = Duration::from_millis(50);

/// Runs until the member stops.
pub(crate) async fn follow_leases(node: Node, effects: Effects) {
    let news = Arc::new(Notify::new());
    let waker = news.clone();
    effects.on_effect(Arc::new(move || waker.notify_one()));
    let mut status = node.watch_status();
    let mut leading = None;
    while !node.is_stopped() {
        let now = status.borrow_and_update().clone();
        let term = now.is_leader().then_some(now.term);
        if term != leading {
            // Out of office first: what a former term knew of deadlines is void.
            node.clock().follow();
            if term.is_some() && !take_over(&node).await {
                leading = None;
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            leading = term;
        }
        tokio::select! {
            () = news.notified() => {}
            changed = status.changed() => if changed.is_err() { return },
        }
        let drained = effects.take();
        if drained.lost && leading.is_some() {
            start_all(&node);
        }
        let now = Instant::now();
        for effect in drained.effects {
            match effect {
                Effect::LeaseGranted { id, ttl } => node.clock().granted(now, id, ttl),
                Effect::LeaseRevoked { id } => node.clock().revoked(id),
                _ => {}
            }
        }
    }
}

/// The leases count from when this member has applied everything that its predecessors committed.
/// False when that could not be found out.
async fn take_over(node: &Node) -> bool {
    let applied = node.read_barrier().await.is_ok();
    if applied {
        start_all(node);
    }
    applied
}

fn start_all(node: &Node) {
    let leases = node.view().leases();
    let running = leases.into_iter().map(|lease| Running {
        id: lease.id,
        ttl: lease.ttl,
        remaining: lease.remaining,
    });
    node.clock().lead(Instant::now(), running);
}
