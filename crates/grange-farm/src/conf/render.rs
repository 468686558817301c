//! A farm as the text of a file.

use super::format::{Format, Target};
use super::lines::{self, LineOptions};
use super::rendered::{Export, LeftOut, RenderError, Rendered};
use super::{harmless, text_of};

/// Renders a farm for a target.
///
/// The same farm always gives the same bytes, so that files can be compared.
pub fn render(target: Target, export: &Export, options: &LineOptions) -> Result<Rendered, RenderError> {
    match target {
        Target::Conf(Format::Dir) => Err(RenderError::Directory),
        Target::Conf(format) => conf(format, export),
        Target::Env => lines::env(export, options),
        Target::Hosts => Ok(lines::hosts(export, options)),
        Target::Haproxy => Ok(lines::haproxy(export, options)),
        Target::Nginx => Ok(lines::nginx(export, options)),
    }
}

fn conf(format: Format, export: &Export) -> Result<Rendered, RenderError> {
    let projection = format.projection(&export.properties());
    let text = text_of(format, &projection.properties.into()).map_err(|why| RenderError::NoForm { format, why })?;
    let left_out = projection.left_out.into_iter().map(|problem| {
        let (host, field) = problem.path.split_first().expect("a problem has a path");
        let why =
            if field.is_empty() { problem.why } else { format!("{}: {}", harmless(&field.join(".")), problem.why) };
        LeftOut { host: host.clone(), why }
    });
    Ok(Rendered { bytes: text.into_bytes(), left_out: left_out.collect() })
}
