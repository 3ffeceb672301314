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

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use rustix::process::{Pid, Signal as Kill, kill_process};

    use super::*;

    const PART: &str = "METASTORE_TEST_SIGNAL_PART";

    /// The process that is ended: this test program once more, with a part to play.
    struct Victim {
        child: Child,
        lines: BufReader<std::process::ChildStdout>,
    }

    impl Victim {
        fn start(part: &str) -> Self {
            let mut child = Command::new(env::current_exe().expect("the test program"))
                .args([
                    "--exact",
                    "signal::tests::victim",
                    "--nocapture",
                    "--ignored",
                ])
                .env(PART, part)
                .stdout(Stdio::piped())
                .spawn()
                .expect("started");
            let lines = BufReader::new(child.stdout.take().expect("piped"));
            Self { child, lines }
        }

        fn wait_for(&mut self, wanted: &str) {
            let mut line = String::new();
            while !line.contains(wanted) {
                line.clear();
                assert_ne!(
                    self.lines.read_line(&mut line).expect("a line"),
                    0,
                    "it ended before {wanted}"
                );
            }
        }

        fn kill(&self, signal: Kill) {
            let pid = i32::try_from(self.child.id())
                .ok()
                .and_then(Pid::from_raw)
                .expect("a process");
            kill_process(pid, signal).expect("signalled");
        }

        fn ended_by(mut self) -> Option<i32> {
            self.child.wait().expect("ended").signal()
        }
    }

    #[test]
    #[ignore = "the part of a process that other tests end"]
    #[allow(clippy::print_stdout)]
    fn victim() {
        let Ok(part) = env::var(PART) else { return };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let signals = Signals::catch().expect("caught");
            println!("\ncatching");
            let signal = signals.received().await;
            println!("\nstopping");
            match part.as_str() {
                "ends" => end_by(signal),
                // Never gets done.
                _ => tokio::time::sleep(Duration::from_secs(600)).await,
            }
        });
    }

    #[test]
    fn the_process_dies_of_the_signal_after_it_has_stopped() {
        for (kill, number) in [(Kill::TERM, SIGTERM), (Kill::INT, SIGINT)] {
            let mut victim = Victim::start("ends");
            victim.wait_for("catching");
            victim.kill(kill);
            victim.wait_for("stopping");
            assert_eq!(victim.ended_by(), Some(number));
        }
    }

    #[test]
    fn a_second_signal_ends_a_process_that_does_not_stop() {
        let mut victim = Victim::start("hangs");
        victim.wait_for("catching");
        victim.kill(Kill::TERM);
        victim.wait_for("stopping");
        victim.kill(Kill::INT);
        assert_eq!(victim.ended_by(), Some(SIGINT));
    }
}
