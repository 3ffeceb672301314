//! SIGTERM and SIGINT: the first asks the member to stop in order, the second ends it at once.
//!
//! Follows `pkg/osutil/interrupt_unix.go`: at the end the process dies of the signal, as whoever sent it
//! expects, or exits with 0 where it is process 1, which no signal's default action can end.

use std::io;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator;
use signal_hook::low_level;
use tokio::sync::watch;

/// A signal to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    fn number(self) -> i32 {
        match self {
            Self::Interrupt => SIGINT,
            Self::Terminate => SIGTERM,
        }
    }

    /// As Go prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminated",
        }
    }
}

/// Waits for signals from [`Signals::catch`] on.
pub struct Signals {
    first: watch::Receiver<Option<Signal>>,
}

impl Signals {
    /// Catches the signals on a thread of its own, so that the second one works whatever the others do.
    ///
    /// # Errors
    /// Where the kernel refuses the handler or the thread.
    pub fn catch() -> io::Result<Self> {
        let mut signals = iterator::Signals::new([SIGINT, SIGTERM])?;
        let (sender, first) = watch::channel(None);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for number in signals.forever() {
                    let signal = if number == SIGINT {
                        Signal::Interrupt
                    } else {
                        Signal::Terminate
                    };
                    if sender.borrow().is_some() {
                        tracing::warn!(
                            signal = signal.name(),
                            "received another signal; ending at once"
                        );
                        end_at_once(signal);
                    }
                    tracing::info!(signal = signal.name(), "received signal; shutting down");
                    sender.send_replace(Some(signal));
                }
            })?;
        Ok(Self { first })
    }

    /// The first signal, as soon as there is one.
    pub async fn received(&self) -> Signal {
        let mut first = self.first.clone();
        loop {
            if let Some(signal) = *first.borrow_and_update() {
                return signal;
            }
            if first.changed().await.is_err() {
                // The thread never ends before the process.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Ends the process by the signal that asked for it, after everything else is done.
pub fn end_by(signal: Signal) -> ! {
    if std::process::id() != 1 {
        // Returns only where the signal is blocked.
        let _ = low_level::emulate_default_handler(signal.number());
    }
    low_level::exit(0)
}

fn end_at_once(signal: Signal) -> ! {
    if std::process::id() != 1 {
        let _ = low_level::emulate_default_handler(signal.number());
    }
    low_level::exit(128 + signal.number())
}
