//! The machine's clocks: the monotonic ones on which the kernel's entries expire, the wall clock of
//! the database, and notice of a step between the two. Whoever needs a time asks here and hands it
//! on as an argument. Never sets a clock.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The timer's time: the year 2255, which the kernel's 64 bits of nanoseconds still hold.
const NEVER_SECONDS: libc::time_t = 9_000_000_000;

/// CLOCK_MONOTONIC in ns: what `bpf_ktime_get_ns` tells.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// CLOCK_MONOTONIC_COARSE in ns: what `bpf_ktime_get_coarse_ns` tells; some ms behind the other.
pub fn monotonic_coarse_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC_COARSE)
}

/// The wall clock, in ms since the Unix epoch, UTC.
pub fn wall_ms() -> i64 {
    milliseconds(read(ClockId::CLOCK_REALTIME))
}

/// What names this run of the kernel: 16 bytes that differ after a reboot. None where they are
/// hidden, as from a service with ProcSubset=pid; nothing else there tells boots apart that a step
/// of the clock leaves alone.
pub fn boot_id() -> Option<[u8; 16]> {
    parse_boot_id(&fs::read_to_string(BOOT_ID).ok()?)
}

/// When the kernel started, by the wall clock as it stands now, in ms since the Unix epoch. Moves
/// with each step of the wall clock: good to show, no name of a boot.
pub fn booted_at_ms() -> i64 {
    wall_ms() - milliseconds(read(ClockId::CLOCK_BOOTTIME))
}

/// Notice of a stepped wall clock; that of a slowly corrected one (adjtime) never comes.
#[derive(Debug)]
pub struct Steps {
    timer: AsyncFd<Timer>,
    offset_ms: i64,
}

/// Watches the wall clock from now on. Needs a tokio runtime with IO.
pub fn steps() -> io::Result<Steps> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = Timer(TimerFd::new(TimerClock::CLOCK_REALTIME, flags)?);
    timer.arm()?;
    // SAFETY: a Timer tells the one descriptor that it owns, open until it is dropped.
    let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE)? };
    Ok(Steps { timer, offset_ms: offset_ms() })
}

impl Steps {
    /// Returns once the wall clock was set, with the ms by which it has moved against
    /// CLOCK_MONOTONIC since the last time (forward: positive; near 0 if it was set to what it
    /// showed). A return from suspend is such a step, too. Safe to cancel: a step meanwhile is told
    /// by the next call.
    pub async fn stepped(&mut self) -> io::Result<i64> {
        loop {
            let mut ready = self.timer.readable().await?;
            let was_set = match was_set(self.timer.get_ref().consume()) {
                Some(answer) => answer?,
                None => {
                    ready.clear_ready();
                    continue;
                }
            };
            ready.clear_ready();
            self.timer.get_ref().arm()?;
            if was_set {
                let before = std::mem::replace(&mut self.offset_ms, offset_ms());
                return Ok(self.offset_ms - before);
            }
        }
    }
}

/// timerfd_create(2): a read fails with ECANCELED once the clock was set; success is the timer's
/// time itself, and EAGAIN neither (none).
fn was_set(read: Result<usize, Errno>) -> Option<io::Result<bool>> {
    match read {
        Err(Errno::ECANCELED) => Some(Ok(true)),
        Ok(_) => Some(Ok(false)),
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        Err(error) => Some(Err(error.into())),
    }
}

/// A timer that waits for nothing but to be cancelled.
#[derive(Debug)]
struct Timer(TimerFd);

impl Timer {
    fn arm(&self) -> io::Result<()> {
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        self.0.set(Expiration::OneShot(TimeSpec::new(NEVER_SECONDS, 0)), flags)?;
        Ok(())
    }

    fn consume(&self) -> Result<usize, Errno> {
        nix::unistd::read(&self.0, &mut [0; 8])
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// How far the wall clock is ahead of the one on which the kernel's entries expire.
fn offset_ms() -> i64 {
    wall_ms() - milliseconds(read(ClockId::CLOCK_MONOTONIC))
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = read(clock);
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

fn milliseconds(time: TimeSpec) -> i64 {
    time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000
}

fn read(clock: ClockId) -> TimeSpec {
    clock_gettime(clock).expect("Linux has had these clocks since 2.6.39")
}

fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    let well_formed = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    well_formed.then(|| u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)).flatten()
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::task::Poll;

    use super::*;

    #[test]
    fn the_monotonic_clocks_go_forward_and_stay_together() {
        let coarse = monotonic_coarse_ns();
        let fine = monotonic_ns();
        assert!(coarse <= fine, "coarse {coarse} fine {fine}");
        assert!(monotonic_ns() >= fine);
    }

    #[test]
    fn a_boot_id_is_sixteen_bytes() {
        let text = "01020304-0506-0708-090a-0b0c0d0e0f10\n";
        assert_eq!(parse_boot_id(text), Some(std::array::from_fn(|i| i as u8 + 1)));
        for nonsense in ["", "01020304-0506-0708-090a-0b0c0d0e0f", "+1020304050607080900a0b0c0d0e0f1"] {
            assert_eq!(parse_boot_id(nonsense), None);
        }
        assert_eq!(boot_id(), boot_id());
    }

    #[test]
    fn the_machine_started_before_now() {
        assert!(booted_at_ms() < wall_ms());
    }

    #[test]
    fn a_cancelled_timer_means_that_the_clock_was_set() {
        assert!(was_set(Err(Errno::ECANCELED)).unwrap().unwrap());
        assert!(!was_set(Ok(8)).unwrap().unwrap(), "the timer's own time is no step");
        assert!(was_set(Err(Errno::EAGAIN)).is_none());
        assert!(was_set(Err(Errno::EBADF)).unwrap().is_err());
    }

    #[tokio::test]
    async fn no_step_is_told_while_nobody_sets_the_clock() {
        let mut steps = steps().unwrap();
        let mut stepped = std::pin::pin!(steps.stepped());
        let poll = std::future::poll_fn(|context| Poll::Ready(stepped.as_mut().poll(context))).await;
        assert!(poll.is_pending());
    }

    #[tokio::test]
    async fn a_timer_that_goes_off_is_armed_again_and_no_step() {
        let mut steps = steps().unwrap();
        let now = Expiration::OneShot(TimeSpec::new(1, 0));
        steps.timer.get_ref().0.set(now, TimerSetTimeFlags::TFD_TIMER_ABSTIME).unwrap();
        // A second descriptor of the same timer, to look at it meanwhile.
        let timer = steps.timer.get_ref().0.as_fd().try_clone_to_owned().unwrap();
        tokio::select! {
            biased;
            step = steps.stepped() => panic!("{step:?}"),
            () = rearmed(&timer) => {}
        }
    }

    async fn rearmed(timer: &OwnedFd) {
        let path = format!("/proc/self/fdinfo/{}", timer.as_raw_fd());
        let far = |line: &str| line.starts_with("it_value: (") && !line.starts_with("it_value: (0,");
        while !fs::read_to_string(&path).unwrap().lines().any(far) {
            tokio::task::yield_now().await;
        }
    }
}
