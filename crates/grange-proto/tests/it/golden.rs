use std::collections::BTreeSet;
use std::path::Path;

use grange_proto::Op;

use crate::record::{Kind, round_trip};

/// One line of a golden file: see `tests/golden/README.md`.
pub(crate) struct Golden {
    pub(crate) from_client: bool,
    pub(crate) name: String,
    pub(crate) detail: String,
    pub(crate) payload: Vec<u8>,
}

impl Golden {
    pub(crate) fn kind(&self) -> Option<Kind> {
        Some(match (self.from_client, self.name.as_str()) {
            (true, "connect") => Kind::ConnectRequest,
            (false, "connect") => Kind::ConnectResponse,
            (false, "event") => Kind::Event,
            (true, _) => Kind::Request,
            (false, name) => Kind::Reply(Op::ALL.iter().copied().find(|op| op.name() == name)?),
        })
    }
}

pub(crate) fn all() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut frames = Vec::new();
    for name in ["kazoo.txt", "zkcli.txt", "raw.txt"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        frames.extend(text.lines().filter(|line| !line.starts_with('#')).map(parse));
    }
    assert!(frames.len() > 100, "the golden files are complete");
    frames
}

fn parse(line: &str) -> Golden {
    let fields: Vec<&str> = line.split(' ').collect();
    let [direction, name, detail, hex] = fields[..] else { panic!("not a golden line: {line}") };
    let hex = if hex == "-" { "" } else { hex };
    let payload = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    Golden { from_client: direction == "C", name: name.to_owned(), detail: detail.to_owned(), payload }
}

#[test]
fn every_recorded_frame_survives_decoding_and_encoding() {
    let frames = all();
    // Requests that Apache itself could not decode are in the files on purpose: their replies carry -5.
    let malformed: BTreeSet<&str> = frames
        .iter()
        .filter(|frame| !frame.from_client && frame.detail == "-5")
        .map(|frame| frame.name.as_str())
        .collect();
    for frame in &frames {
        let Some(kind) = frame.kind() else { continue };
        if !frame.from_client && frame.detail != "0" && frame.detail.parse::<i32>().is_ok() && kind != Kind::Event {
            // A header alone, whatever may follow for operations that failed to decode.
            assert!(round_trip(kind, &frame.payload[..16]).is_ok());
            continue;
        }
        match round_trip(kind, &frame.payload) {
            Ok(bytes) => assert_eq!(bytes, frame.payload, "{} {}", frame.name, frame.detail),
            Err(why) => {
                let expected = frame.from_client && (frame.name == "unknown" || malformed.contains(&*frame.name));
                assert!(expected, "{} {}: {why}", frame.name, frame.detail);
            }
        }
    }
}

#[test]
fn every_operation_of_the_table_has_a_recorded_request() {
    let names: BTreeSet<String> = all().into_iter().filter(|frame| frame.from_client).map(|frame| frame.name).collect();
    let never_sent = [Op::Notification, Op::Check, Op::DeleteContainer, Op::CreateSession];
    for op in Op::ALL.iter().filter(|op| !never_sent.contains(op)) {
        assert!(names.contains(op.name()), "no golden frame of {}", op.name());
    }
}
