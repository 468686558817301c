//! A plan for people and for programs.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use grange_client::declared::{Action, Applied, Change, EntryChange, Kind, Plan, entries_of};
use serde_json::{Value, json};

use super::Output;
use crate::context::Context;
use crate::error::CommandError;
use crate::output;

/// The most characters of data that are shown to people.
const DATA_CHARS_MAX: usize = 60;

/// What is printed.
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    /// Znodes that the file does not name count as a difference.
    pub(super) names_unnamed: bool,
    /// What was done.
    pub(super) applied: Option<Applied>,
}

/// Prints a plan.
pub(super) fn print(cx: &Context, form: Output, report: &Report<'_>) -> Result<(), CommandError> {
    let mut out = output::Output::new(cx);
    match form {
        Output::Json => out.json(&object(report))?,
        Output::Text => lines(report).iter().try_for_each(|line| out.line(line))?,
    }
    out.finish()
}

/// Prints a plan that is only to be seen, and returns what that says: there are differences, whoever reads of them.
pub(super) fn print_differences(cx: &Context, form: Output, report: &Report<'_>) -> Result<(), CommandError> {
    let printed = print(cx, form, report);
    let names_none = !report.names_unnamed || report.plan.unnamed.is_empty();
    let is_same = report.plan.is_empty() && names_none;
    match printed {
        Err(error) if !error.is_closed_pipe() => Err(error),
        printed if is_same => printed,
        _ => Err(CommandError::differs()),
    }
}

/// Prints a plan that is to be carried out: it is not if nobody can see it.
pub(super) fn print_before_it_is_done(cx: &Context, plan: &Plan) -> Result<(), CommandError> {
    print(cx, Output::Text, &Report { plan, names_unnamed: false, applied: None })
        .map_err(|error| error.into_failure().context("the plan cannot be shown, so nothing was done"))
}

/// Prints what was done.
pub(super) fn print_applied(cx: &Context, applied: Applied) -> Result<(), CommandError> {
    let mut out = output::Output::new(cx);
    out.line(&applied_line(applied))?;
    out.finish()
}

pub(super) fn applied_line(applied: Applied) -> String {
    format!("created {}, changed {}, deleted {}", applied.created, applied.changed, applied.deleted)
}

fn lines(report: &Report<'_>) -> Vec<String> {
    let mut lines: Vec<String> = report.plan.changes.iter().flat_map(change_lines).collect();
    if report.names_unnamed {
        lines.extend(report.plan.unnamed.iter().map(|path| format!("? {path}  (not in the file)")));
    }
    for obstacle in &report.plan.obstacles {
        let place = obstacle.location.as_ref().map(|location| format!("  ({location})")).unwrap_or_default();
        lines.push(format!("! {}  {}{place}", obstacle.path, obstacle.why));
    }
    let (create, change, delete) = report.plan.counts();
    let unnamed = if report.names_unnamed { report.plan.unnamed.len() } else { 0 };
    if lines.is_empty() {
        return vec!["nothing to do".to_owned()];
    }
    let mut sum = format!("{create} to create, {change} to change, {delete} to delete");
    if unnamed > 0 {
        sum += &format!(", {unnamed} not in the file");
    }
    lines.push(sum);
    lines
}

fn change_lines(change: &Change) -> Vec<String> {
    let Change { path, is_sensitive, action } = change;
    match action {
        Action::Create { data, acl, kind, .. } => {
            let mut lines = vec![match kind {
                Kind::Persistent => format!("+ {path}"),
                Kind::Container => format!("+ {path}  (container)"),
                Kind::Ttl(ttl_ms) => format!("+ {path}  (time to live {ttl_ms} ms)"),
                Kind::Sequential => format!("+ {path}NNNNNNNNNN"),
            }];
            if !data.is_empty() {
                lines.push(format!("    data  {}", shown_data(data, *is_sensitive)));
            }
            lines.extend(entries_of(acl).iter().map(entry_line));
            lines
        }
        Action::Change { data, acl } => {
            let mut lines = vec![format!("~ {path}")];
            if let Some(data) = data {
                let (from, to) = (shown_data(&data.from, *is_sensitive), shown_data(&data.to, *is_sensitive));
                lines.push(format!("    data  {from} -> {to}"));
            }
            lines.extend(acl.iter().flat_map(|acl| acl.entries()).map(|entry| entry_line(&entry)));
            lines
        }
        Action::Delete { .. } => vec![format!("- {path}")],
    }
}

fn entry_line(change: &EntryChange) -> String {
    let sign = if change.is_added { '+' } else { '-' };
    let note = if change.is_another_password { "  (another password)" } else { "" };
    format!("    acl {sign} {}{note}", change.entry)
}

fn shown_data(data: &[u8], is_sensitive: bool) -> String {
    let length = data.len();
    match std::str::from_utf8(data) {
        _ if is_sensitive => format!("({length} bytes, not shown)"),
        Err(_) => format!("({length} bytes that are not text)"),
        Ok(text) if text.chars().count() > DATA_CHARS_MAX => {
            let beginning: String = text.chars().take(DATA_CHARS_MAX).collect();
            format!("\"{}…\" ({length} bytes)", beginning.escape_debug())
        }
        Ok(text) => format!("\"{}\"", text.escape_debug()),
    }
}

fn object(report: &Report<'_>) -> Value {
    let (create, change, delete) = report.plan.counts();
    let obstacles = report.plan.obstacles.iter().map(|obstacle| {
        let place = obstacle.location.as_ref().map(ToString::to_string);
        json!({ "path": obstacle.path, "why": obstacle.why.to_string(), "at": place })
    });
    let mut object = json!({
        "changes": report.plan.changes.iter().map(change_object).collect::<Vec<_>>(),
        "obstacles": obstacles.collect::<Vec<_>>(),
        "create": create,
        "change": change,
        "delete": delete,
    });
    if report.names_unnamed {
        object["unnamed"] = json!(report.plan.unnamed);
    }
    if let Some(Applied { created, changed, deleted }) = report.applied {
        object["applied"] = json!({ "created": created, "changed": changed, "deleted": deleted });
    }
    object
}

fn change_object(change: &Change) -> Value {
    let data_value = |data: &[u8]| match std::str::from_utf8(data) {
        _ if change.is_sensitive => json!({ "bytes": data.len() }),
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": BASE64_STANDARD.encode(data) }),
    };
    let acl_value = |entries: Vec<EntryChange>| {
        let of = |is_added| -> Vec<String> {
            let wanted = entries.iter().filter(|entry| entry.is_added == is_added);
            wanted.map(|entry| entry.entry.clone()).collect()
        };
        json!({ "add": of(true), "remove": of(false) })
    };
    let path = &change.path;
    match &change.action {
        Action::Create { data, acl, .. } => {
            json!({ "path": path, "action": "create", "data": { "to": data_value(data) }, "acl": acl_value(entries_of(acl)) })
        }
        Action::Change { data, acl } => {
            let mut object = json!({ "path": path, "action": "change" });
            if let Some(data) = data {
                object["data"] = json!({ "from": data_value(&data.from), "to": data_value(&data.to) });
            }
            if let Some(acl) = acl {
                object["acl"] = acl_value(acl.entries());
            }
            object
        }
        Action::Delete { .. } => json!({ "path": path, "action": "delete" }),
    }
}
