//! `grange shell edit`.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use anyhow::anyhow;
use clap::Args;
use grange_client::ClientError;
use serde_json::json;

use crate::error::CommandError;
use crate::output::harmless_line;
use crate::shell::answer::refused;
use crate::shell::path::PathArg;
use crate::shell::{Form, Session, stat_form};

/// The editor, if neither $VISUAL nor $EDITOR names one.
const DEFAULT_EDITOR: &str = "vi";

/// Edit the data of a znode in $VISUAL or $EDITOR, and set it unless somebody else has changed it meanwhile
#[derive(Debug, Args)]
#[command(
    after_help = "If the data was changed meanwhile, or the server cannot be reached, the edited text stays in its \
                        file, whose name is printed."
)]
pub(super) struct EditArgs {
    /// The znode
    path: PathArg,
}

pub(super) async fn run(session: &mut Session<'_>, args: &EditArgs) -> Result<(), CommandError> {
    let path = &session.path(&args.path)?;
    let (before, stat) = session.client.get_data(path).await.map_err(|error| refused(path, error))?;
    let file =
        temporary(&before).map_err(|error| CommandError::failure(error).context("cannot write a file to edit"))?;
    edit(file.path()).await?;
    let after = std::fs::read(file.path())
        .map_err(|error| CommandError::failure(error).context("cannot read the edited file"))?;
    if after == before || is_only_a_line_break_more(&before, &after) {
        eprintln!("nothing was changed");
        return Ok(());
    }
    // One that was made anew meanwhile may have the same version.
    let written = match session.client.check_stat(path).await {
        Ok(Some(now)) if now.czxid != stat.czxid => Err(ClientError::BadVersion),
        _ => session.client.set_data(path, &after, Some(stat.version)).await,
    };
    match written {
        Ok(stat) => match session.form {
            Form::Json => session.out.json(&json!({ "path": path, "stat": stat_form::object(&stat) })),
            Form::Text => Ok(()),
        },
        Err(error) => Err(kept(path, error, file)),
    }
}

/// Keeps the edited text, and says where it is.
fn kept(path: &str, error: ClientError, file: tempfile::NamedTempFile) -> CommandError {
    let is_conflict = error == ClientError::BadVersion;
    let place = match file.keep() {
        Ok((_, place)) => format!("what was edited is in {}", place.display()),
        Err(error) => format!("what was edited is lost: {}", error.error),
    };
    let error = if is_conflict {
        let shown = harmless_line(path);
        CommandError::negative(anyhow!("somebody else has changed {shown} meanwhile; it is as they left it"))
    } else {
        refused(path, error)
    };
    error.hint(place)
}

/// Editors end the last line.
fn is_only_a_line_break_more(before: &[u8], after: &[u8]) -> bool {
    after.strip_suffix(b"\n").is_some_and(|rest| rest == before)
}

fn temporary(data: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let owner_only = std::fs::Permissions::from_mode(0o600);
    let mut file = tempfile::Builder::new().prefix("grange-edit-").permissions(owner_only).tempfile()?;
    file.write_all(data)?;
    file.flush()?;
    Ok(file)
}

async fn edit(file: &Path) -> Result<(), CommandError> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
        .unwrap_or_else(|| DEFAULT_EDITOR.to_owned());
    // The variables hold commands for a shell, such as `code --wait`; the name of the file is an argument and no text of it.
    let status = tokio::process::Command::new("/bin/sh")
        .args(["-c", &format!("{editor} \"$1\""), "edit"])
        .arg(file)
        .stdin(Stdio::inherit())
        .status()
        .await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CommandError::failure(anyhow!("the editor '{editor}' ended with {status}; nothing was set"))
            .hint("name another one in $EDITOR")),
        Err(error) => Err(CommandError::failure(error).context("cannot start the editor")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_for_its_owner_only() {
        let file = temporary(b"secret").unwrap();
        assert_eq!(file.as_file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read(file.path()).unwrap(), b"secret");
    }

    #[test]
    fn a_line_break_that_the_editor_adds_is_no_change() {
        assert!(is_only_a_line_break_more(b"a", b"a\n"));
        assert!(!is_only_a_line_break_more(b"a\n", b"a"));
        assert!(!is_only_a_line_break_more(b"a", b"b\n"));
    }
}
