//! `grange shell get`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use grange_proto::ZnodePath;
use serde_json::{Value, json};

use crate::error::CommandError;
use crate::shell::answer::refused;
use crate::shell::{Form, Session, path, stat_form};

/// Print the data of a znode: byte by byte when piped, made harmless on a terminal
#[derive(Debug, Args)]
#[command(after_help = "With --json, data that is UTF-8 text is in \"data\", other data in \"dataBase64\".")]
pub(super) struct GetArgs {
    /// Print the znode's stat too
    #[arg(short = 's')]
    stat: bool,
    /// The znode
    #[arg(value_parser = path::parse)]
    path: ZnodePath,
}

pub(super) async fn run(session: &mut Session<'_>, args: &GetArgs) -> Result<(), CommandError> {
    let path = args.path.as_str();
    let (data, stat) = session.client.get_data(path).await.map_err(|error| refused(path, error))?;
    if session.form == Form::Json {
        let mut object = data_object(path, &data);
        if args.stat {
            object["stat"] = stat_form::object(&stat);
        }
        return session.out.json(&object);
    }
    session.out.data(&data)?;
    if args.stat {
        if !session.cx.is_stdout_terminal && !data.is_empty() && !data.ends_with(b"\n") {
            session.out.line("")?;
        }
        session.print_stat(&stat)?;
    }
    Ok(())
}

fn data_object(path: &str, data: &[u8]) -> Value {
    match std::str::from_utf8(data) {
        Ok(text) => json!({ "path": path, "data": text }),
        Err(_) => json!({ "path": path, "dataBase64": STANDARD.encode(data) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_not_text_is_encoded() {
        assert_eq!(data_object("/a", "é".as_bytes()), json!({ "path": "/a", "data": "é" }));
        assert_eq!(data_object("/a", b"\xff\x00"), json!({ "path": "/a", "dataBase64": "/wA=" }));
    }
}
