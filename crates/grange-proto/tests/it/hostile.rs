//! Fuzz targets: no decoder panics, allocates for what has not arrived, or encodes what it would not decode again.
//!
//! Each runs a fixed number of inputs in a test run; `cargo bolero test` searches further with a fuzzer's guidance.

use grange_proto::frame::{frame_length, split_frame};
use grange_proto::{Op, path};

use crate::golden;
use crate::record::{Kind, round_trip};

const ITERATIONS: usize = 20_000;

/// What decodes must encode to bytes that decode to the same bytes again.
fn check(kind: Kind, payload: &[u8]) {
    if let Ok(once) = round_trip(kind, payload) {
        let twice = round_trip(kind, &once).expect("what was encoded can be decoded");
        assert_eq!(once, twice, "{kind:?}");
    }
}

#[test]
fn random_bytes_as_any_record() {
    bolero::check!().with_iterations(ITERATIONS).for_each(|bytes: &[u8]| {
        check(Kind::ConnectRequest, bytes);
        check(Kind::ConnectResponse, bytes);
        check(Kind::Request, bytes);
        check(Kind::Event, bytes);
        for &op in Op::ALL {
            check(Kind::Reply(op), bytes);
        }
    });
}

#[test]
fn random_bytes_as_the_body_of_each_request() {
    bolero::check!().with_iterations(ITERATIONS).for_each(|bytes: &[u8]| {
        for &op in Op::ALL {
            let mut payload = vec![0, 0, 0, 1];
            payload.extend_from_slice(&op.code().to_be_bytes());
            payload.extend_from_slice(bytes);
            check(Kind::Request, &payload);
        }
    });
}

#[test]
fn recorded_frames_with_random_damage() {
    let frames: Vec<_> = golden::all().into_iter().filter_map(|f| Some((f.kind()?, f.payload))).collect();
    bolero::check!().with_iterations(ITERATIONS).with_type::<(u16, u16, u8, u16)>().cloned().for_each(
        |(which, at, byte, cut)| {
            let (kind, mut payload) = frames[usize::from(which) % frames.len()].clone();
            if payload.is_empty() {
                return;
            }
            let length = payload.len();
            payload[usize::from(at) % length] = byte;
            payload.truncate(length - usize::from(cut) % (length + 1) * usize::from(byte % 2));
            check(kind, &payload);
        },
    );
}

#[test]
fn random_bytes_as_frames_and_paths() {
    bolero::check!().with_iterations(ITERATIONS).for_each(|bytes: &[u8]| {
        if let Ok(Some((payload, rest))) = split_frame(bytes, 1 << 20) {
            assert_eq!(payload.len() + rest.len() + 4, bytes.len());
        }
        assert_eq!(frame_length(bytes, 0).is_ok_and(|length| length.is_none()), bytes.len() < 4);
        let text = String::from_utf8_lossy(bytes);
        if path::validate(&text).is_ok() && text != "/" {
            let (parent, name) = path::split(&text).expect("only the root has no parent");
            assert!(path::validate(parent).is_ok() && !name.is_empty());
        }
    });
}
