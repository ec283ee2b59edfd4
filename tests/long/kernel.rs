//! Debian's own kernel 6.1, the oldest that is supported, booted under emulation: the filter loads there,
//! attaches and blocks. What is tested is said by `pbx-guest`; here is the machine around it.

mod initramfs;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use initramfs::Initramfs;

/// A boot and the test take a small part of this, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(300);

#[test]
#[ignore = "boots a kernel under emulation: cargo xtask test --long"]
fn the_filter_loads_attaches_and_blocks_under_debians_kernel_6_1() {
    let printed = run().unwrap_or_else(|error| panic!("{error:?}"));
    assert!(printed.iter().any(|line| line.starts_with("kernel: 6.1.")), "{}", printed.join("\n"));
    assert!(printed.iter().any(|line| line == "GUEST PASS"), "{}", printed.join("\n"));
}

/// Boots the machine; what it printed until it switched itself off.
fn run() -> Result<Vec<String>> {
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kernel-6.1");
    ensure!(
        kernel.join("vmlinuz").exists(),
        "there is no kernel in {}; `cargo xtask setup --long` fetches it",
        kernel.display()
    );
    let guest = Path::new(env!("CARGO_BIN_EXE_pbx-guest"));
    let directory = tempfile::tempdir()?;
    let mut files = Initramfs::new(directory.path().join("root"))?;
    files.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("long/init"), "init")?;
    files.copy(&kernel.join("veth.ko"), "veth.ko")?;
    files.program("busybox")?;
    files.program("ip")?;
    files.program(guest)?;
    files.program(guest.with_file_name("pbx"))?;
    let image = directory.path().join("initramfs");
    files.pack(&image)?;
    boot(&kernel.join("vmlinuz"), &image)
}

/// Runs qemu to its end or to the deadline; the lines of its serial console.
fn boot(kernel: &Path, image: &Path) -> Result<Vec<String>> {
    let start = Instant::now();
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        // A kernel that panics reboots at once, which ends the machine.
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start qemu-system-x86_64 (`cargo xtask setup --long` installs it)")?;
    let console = BufReader::new(machine.stdout.take().context("it is piped")?);
    let (sender, lines) = mpsc::sync_channel(64);
    let reader = thread::spawn(move || {
        for line in console.split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let mut printed = Vec::new();
    let ended = loop {
        match lines.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
            Ok(line) => {
                println!("{:6.1} s  {line}", start.elapsed().as_secs_f64());
                printed.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    if !ended {
        machine.kill()?;
    }
    let status = machine.wait()?;
    drop(lines);
    reader.join().ok().context("the reader of the console panicked")?;
    let printed_text = || printed.join("\n");
    if !ended {
        bail!("the machine was still running after {DEADLINE:?}:\n{}", printed_text());
    }
    ensure!(status.success(), "qemu ended with {status}:\n{}", printed_text());
    Ok(printed)
}
