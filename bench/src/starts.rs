//! Start to ready, and memory when idle, of the real binary on its embedded default.

use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

const PATIENCE: Duration = Duration::from_secs(30);

/// The server's binary, beside this one.
pub fn binary() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("switchyard");
    anyhow::ensure!(path.exists(), "{} is not built; run: cargo build --release", path.display());
    Ok(path)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_ready(port: u16) -> bool {
    use std::io::Write;
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

fn start(data: &Path, port: u16) -> anyhow::Result<(Running, Duration)> {
    let began = Instant::now();
    let mut command = Command::new(binary()?);
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--log", "warn", "--data"]).arg(data);
    let child = command.stdout(Stdio::null()).spawn().context("starting the server")?;
    let running = Running(child);
    while !is_ready(port) {
        anyhow::ensure!(began.elapsed() < PATIENCE, "not ready within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((running, began.elapsed()))
}

pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    memory_mib(pid, "VmRSS:")
}

/// What the kernel says of a process's memory under this name.
pub fn memory_mib(pid: u32, name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1_024.0)
}

pub fn run() -> anyhow::Result<()> {
    println!("Start to ready of the binary on its embedded default");
    let folder = tempfile::tempdir()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let (running, cold) = start(folder.path(), port)?;
    drop(running);
    let mut warm = Duration::MAX;
    let mut idle = 0.0;
    for _ in 0..5 {
        let (running, took) = start(folder.path(), port)?;
        warm = warm.min(took);
        idle = resident_mib(running.0.id())?;
    }
    println!(
        "  first start {cold:.1?}, with a warm artefact cache {warm:.1?} (best of 5), idle {idle:.1} MiB"
    );
    Ok(())
}
