//! Keeps the lease clock in step with the log and with leadership.

use std::sync::Arc;
use std::time::Instant;

use metastore_state_machine::{Effect, Effects};
use tokio::sync::Notify;

use crate::lease_clock::Running;
use crate::node::Node;

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
            leading = term;
            if term.is_some() {
                take_over(&node).await
            } else {
                node.clock().follow()
            }
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
async fn take_over(node: &Node) {
    if node.read_barrier().await.is_ok() {
        start_all(node);
    }
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
