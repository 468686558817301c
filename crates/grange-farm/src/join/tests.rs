//! What becomes of both sides, without a server.

use std::fs;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::*;

fn properties(value: Value) -> Properties {
    Properties::try_from(value).unwrap()
}

fn joiner(path: PathBuf, direction: Direction) -> Joiner {
    let joining = Joining {
        due: None,
        farm: "/farm".parse().unwrap(),
        name: Some("h".to_owned()),
        path,
        format: Format::Dir,
        direction,
        hostname: None,
        health_field: None,
    };
    Joiner::new(joining, watch::channel(Health::Well).1, mpsc::channel(1).0).unwrap()
}

/// A host changes a field and changes it back before it hears whether the first change was done.
#[tokio::test]
async fn a_change_that_was_taken_back_before_its_answer_came_stays_taken_back() {
    for direction in [Direction::Both, Direction::ToFarm] {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("enabled");
        fs::write(&file, "0").unwrap();
        let mut joiner = joiner(root.path().to_owned(), direction);
        let (zero, one) = (properties(json!({"enabled": "0"})), properties(json!({"enabled": "1"})));
        joiner.agree(zero.clone());
        fs::write(&file, "1").unwrap();
        joiner.local.changed().await;
        assert_eq!(joiner.merged(Some(&zero)), Some(one.clone()));
        joiner.note_sent();
        fs::write(&file, "0").unwrap();
        joiner.local.changed().await;
        assert_eq!(joiner.merged(Some(&one)), Some(zero.clone()), "it was done, {direction:?}");
        assert_eq!(joiner.merged(Some(&zero)), Some(zero.clone()), "it was not, {direction:?}");
        // Once both are equal, the same value is the farm's.
        joiner.agree(zero);
        assert_eq!(joiner.merged(Some(&one)), Some(one), "{direction:?}");
    }
}
