//! What the process asks of the kernel and of its allocator before it does anything.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tikv_jemalloc_ctl::{Access, AsName};

/// Memory that was freed goes back to the kernel after this time: long enough that a busy member does not ask
/// for it again at once, short enough that a peak is gone within seconds.
const DECAY_MILLISECONDS: isize = 2_000;

/// Lets a thread of jemalloc's own give freed memory back. To be called before other threads start: there is one
/// arena by then, and later ones take over the setting.
///
/// # Errors
/// Where jemalloc does not know one of these settings; nothing depends on it.
pub fn tune_allocator() -> Result<(), tikv_jemalloc_ctl::Error> {
    tikv_jemalloc_ctl::background_thread::write(true)?;
    for name in [
        &b"arenas.dirty_decay_ms\0"[..],
        b"arenas.muzzy_decay_ms\0",
        b"arena.0.dirty_decay_ms\0",
        b"arena.0.muzzy_decay_ms\0",
    ] {
        name.name().write(DECAY_MILLISECONDS)?;
    }
    Ok(())
}

/// Raises the limit of open files to what the process may have, as Go does for every program; returns it.
///
/// # Errors
/// Where the kernel refuses.
pub fn raise_file_limit() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )?;
    }
    Ok(limit.maximum)
}

/// Keeps all memory of the process, now and later, out of swap (--memory-mlock).
///
/// # Errors
/// Where the process may not lock so much.
pub fn lock_memory() -> io::Result<()> {
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_memory_goes_back_after_a_while_by_a_thread_of_its_own() {
        tune_allocator().expect("tuned");
        let decay: isize = b"arenas.dirty_decay_ms\0".name().read().expect("a setting");
        assert_eq!(decay, DECAY_MILLISECONDS);
        assert!(tikv_jemalloc_ctl::background_thread::read().expect("a setting"));
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        let limit = raise_file_limit().expect("raised");
        assert_eq!(getrlimit(Resource::Nofile).current, limit);
    }
}
