//! Measures how many appends the log makes durable per second, next to a plain file on the same disk.
//!
//! `cargo run --release -p grange-server --example log_sync -- DIR [SECONDS]`
//!
//! The plain file shows what zero-filling is worth: `reserved` has its blocks reserved only, `zeroed` is filled with
//! zeros before. Run it on an idle disk; the figures of one run are comparable with each other only.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grange_server::storage::log::{Batch, Entry, Log, LogOptions};
use rustix::fs::FallocateFlags;

const PLAIN_BYTES: u64 = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: log_sync DIR [SECONDS]")?;
    let seconds = args.next().map_or(Ok(2.0), |text| text.parse())?;
    let run_for = Duration::from_secs_f64(seconds);
    let dir = Path::new(&dir).join(format!("log_sync.{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    for entry_bytes in [200, 4096, 65_536] {
        plain(&dir.join("plain"), "reserved", entry_bytes, run_for)?;
        plain(&dir.join("plain"), "zeroed", entry_bytes, run_for)?;
        log(&dir.join("log"), entry_bytes, run_for)?;
    }
    recovery(&dir.join("log"))?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Writes and syncs a plain file until the time is over or the file is full.
fn plain(path: &Path, kind: &str, entry_bytes: usize, run_for: Duration) -> Result<(), Box<dyn Error>> {
    let file: File = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, PLAIN_BYTES)?;
    if kind == "zeroed" {
        file.write_all_at(&vec![0; usize::try_from(PLAIN_BYTES)?], 0)?;
    }
    file.sync_all()?;
    let data = vec![0x5a; entry_bytes];
    let mut offset = 0;
    report(kind, entry_bytes, run_for, || {
        if offset + data.len() as u64 > PLAIN_BYTES {
            return Ok(false);
        }
        file.write_all_at(&data, offset)?;
        file.sync_data()?;
        offset += data.len() as u64;
        Ok(true)
    })
}

/// Appends and syncs one entry at a time, purging like a server that takes snapshots.
fn log(dir: &Path, entry_bytes: usize, run_for: Duration) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let (mut log, recovered) = Log::open(dir, LogOptions::default())?;
    let mut index = recovered.last.index;
    let data = Bytes::from(vec![0x5a; entry_bytes]);
    let mut batch = Batch::new();
    report("log", entry_bytes, run_for, || {
        index += 1;
        batch.clear();
        batch.push(Entry { index, term: 1, tag: 0, data: data.clone() });
        log.append(&batch)?;
        log.sync()?;
        if index % 1000 == 0 && log.bytes_on_disk() > 8 * LogOptions::default().segment_bytes {
            log.purge_before(index);
        }
        Ok(true)
    })?;
    log.close()?;
    Ok(())
}

fn report(
    kind: &str,
    entry_bytes: usize,
    run_for: Duration,
    mut append: impl FnMut() -> Result<bool, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < run_for {
        let before = Instant::now();
        if !append()? {
            break;
        }
        times.push(before.elapsed());
    }
    let seconds = start.elapsed().as_secs_f64();
    times.sort_unstable();
    let per_second = f64::from(u32::try_from(times.len())?) / seconds;
    let mib_per_second = per_second * f64::from(u32::try_from(entry_bytes)?) / f64::from(1 << 20);
    let at = |part: usize| times.get(times.len() * part / 1000).copied().unwrap_or_default();
    println!(
        "{kind:>8} {entry_bytes:>6} B: {per_second:>8.0} syncs/s {mib_per_second:>7.1} MiB/s, p50 {:?} p99 {:?} max {:?}",
        at(500),
        at(990),
        times.last().copied().unwrap_or_default()
    );
    Ok(())
}

/// Times opening the log and reading all of its entries.
fn recovery(dir: &Path) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let (log, recovered) = Log::open(dir, LogOptions::default())?;
    let opened = start.elapsed();
    let mut bytes = 0;
    let mut count = 0_u64;
    for entry in log.entries(recovered.first_index) {
        bytes += entry?.data.len();
        count += 1;
    }
    let on_disk = log.bytes_on_disk() >> 20;
    println!(
        "opened {on_disk} MiB in {opened:?}, read {count} entries, {} MiB, in {:?}",
        bytes >> 20,
        start.elapsed() - opened
    );
    Ok(())
}
