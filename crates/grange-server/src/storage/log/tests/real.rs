//! On real files, with the background thread.

use std::process::Command;
use std::time::{Duration, Instant};

use super::super::super::disk::RealDisk;
use super::super::super::sim_disk::Random;
use super::*;

fn options(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, ..LogOptions::default() }
}

#[test]
fn segments_are_made_recycled_and_found_again() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(temp.path(), options(256 << 10)).unwrap();
    for index in 1..=200 {
        write(&mut log, &batch([entry(index, 1, 40_000)]));
        if index % 20 == 0 {
            log.purge_before(index - 5);
        }
    }
    assert!(log.bytes_on_disk() < 40 * 40_000, "{} bytes after purging", log.bytes_on_disk());
    let first = log.first_index();
    drop(log);
    for (index, held) in [(1, false), (first, true), (201, true), (202, false)] {
        assert_eq!(Log::holds_from(temp.path(), &options(256 << 10), index).unwrap(), held, "from {index}");
    }
    // Stopping the thread has left nothing half made or half removed that the next start could stumble over.
    let (log, recovered) = Log::open(temp.path(), options(256 << 10)).unwrap();
    assert_eq!((recovered.last.index, recovered.cut), (200, None));
    assert_eq!(
        log.read(first..201, usize::MAX).unwrap(),
        (first..=200).map(|i| entry(i, 1, 40_000)).collect::<Vec<_>>()
    );
    log.close().unwrap();
    let names = RealDisk.list(temp.path()).unwrap();
    assert!(names.iter().all(|name| name.ends_with(".wal") || name.ends_with(".free")), "{names:?}");
    assert!(names.iter().filter(|name| name.ends_with(".free")).count() <= 2, "{names:?}");
}

/// Waits for the background thread.
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_log_whose_next_segment_is_made_asks_for_no_room() {
    let temp = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(temp.path(), options(256 << 10)).unwrap();
    wait_for("the next segment is made", || log.missing_bytes() == 0);
    assert_eq!(log.bytes_on_disk(), 2 * (256 << 10));
}

#[test]
fn a_full_disk_is_told_of_while_there_is_room_for_what_is_on_its_way() {
    let disk = SimDisk::new(1);
    disk.set_faults(Faults { capacity_bytes: Some(SEGMENT_BYTES + SEGMENT_BYTES / 2), ..Faults::default() });
    let (mut log, _) = Log::open(Path::new(DIR), super::options(&disk)).unwrap();
    wait_for("the disk is found to be full", || log.lacks_room().is_some());
    assert_eq!(log.missing_bytes(), SEGMENT_BYTES);
    write(&mut log, &batch([entry(1, 1, 10_000)]));
    disk.set_faults(Faults::default());
    log.request_room();
    wait_for("the next segment is made", || log.missing_bytes() == 0);
    assert!(log.lacks_room().is_none());
}

#[test]
fn stopping_does_not_wait_for_a_segment_to_be_made() {
    let temp = tempfile::tempdir().unwrap();
    // The segment after the first one would be 1 GiB of zeros.
    let (mut log, _) = Log::open(temp.path(), options(1 << 30)).unwrap();
    write(&mut log, &batch([entry(1, 1, 10)]));
    drop(log);
    let names = RealDisk.list(temp.path()).unwrap();
    assert_eq!(names, ["0000000000000001.wal"]);
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(temp.path(), options(64 << 10)).unwrap();
    for index in 1..=100 {
        write(&mut log, &batch([entry(index, 1, 1000)]));
    }
    drop(log);
    let path = segment::live_path(temp.path(), 1);
    let intact = std::fs::read(&path).unwrap();
    let mut random = Random(1);
    for round in 0..300 {
        let mut bytes = intact.clone();
        let len = random.below(bytes.len() as u64);
        if round % 3 == 0 {
            bytes.truncate(usize::try_from(len).unwrap());
        } else {
            let start = usize::try_from(random.below(bytes.len() as u64 - len)).unwrap();
            bytes[start..][..usize::try_from(len).unwrap()].fill_with(|| random.next().to_le_bytes()[0]);
        }
        std::fs::write(&path, &bytes).unwrap();
        // The second segment goes on where the first one ended, so anything missing from the first is damage.
        let result = Log::open(temp.path(), options(64 << 10)).map(|(_, recovered)| recovered.last.index);
        assert!(matches!(result, Err(LogError::Damaged { .. }) | Ok(100)), "round {round}: {result:?}");
    }
}

/// A small file system of its own, unmounted at the end of the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where mounting is not permitted; the simulated disk covers the same rules there.
    fn mount(size: &str) -> Option<SmallDisk> {
        let temp = tempfile::tempdir().unwrap();
        let option = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(temp.path()).output();
        mount.is_ok_and(|output| output.status.success()).then(|| SmallDisk(temp))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(self.0.path()).status().unwrap().success());
    }
}

#[test]
fn a_full_file_system_refuses_the_batch_and_later_takes_it() {
    let Some(small) = SmallDisk::mount("1m") else { return };
    let dir = small.0.path().join("log");
    std::fs::create_dir(&dir).unwrap();
    let (mut log, _) = Log::open(&dir, options(256 << 10)).unwrap();
    let ballast = small.0.path().join("ballast");
    let mut index = 0;
    let error = loop {
        match log.append(&batch([entry(index + 1, 1, 10_000)])) {
            Ok(()) => log.sync().unwrap(),
            Err(error) => break error,
        }
        index += 1;
        if index == 5 {
            std::fs::write(&ballast, vec![1; 300_000]).unwrap();
        }
        assert!(index < 1000, "the file system is not full");
    };
    assert!(matches!(error, LogError::Full { .. }), "{error}");
    assert_eq!(log.last().index, index);
    std::fs::remove_file(&ballast).unwrap();
    write(&mut log, &batch([entry(index + 1, 1, 10_000)]));
    drop(log);
    let (log, _) = Log::open(&dir, options(256 << 10)).unwrap();
    assert_eq!(all(&log), (1..=index + 1).map(|i| entry(i, 1, 10_000)).collect::<Vec<_>>());
}
