//! Whether a plan may be carried out: said by a flag, or asked on a terminal.

use std::io;

use anyhow::anyhow;
use clap::Args;
use grange_client::declared::Plan;

use crate::context::Context;
use crate::error::CommandError;

/// The flag that answers beforehand.
#[derive(Debug, Args)]
pub(super) struct Confirmation {
    /// Do not ask. N is the number of znodes to be deleted, without which nothing is deleted
    #[arg(long, value_name = "N", num_args = 0..=1, value_parser = number)]
    yes: Option<Option<usize>>,
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "is not a number of znodes; FILE comes before --yes".to_owned())
}

impl Confirmation {
    /// Asks unless the flag answers. Where nobody can be asked, what deletes nothing is permitted.
    pub(super) fn permits(&self, cx: &Context, plan: &Plan) -> Result<(), CommandError> {
        let (create, change, delete) = plan.counts();
        match self.yes {
            Some(Some(number)) if number != delete => {
                Err(nothing_done(format!("--yes says {number}, and {} to be deleted", znodes_are(delete))))
            }
            Some(Some(_)) => Ok(()),
            Some(None) | None if delete > 0 && !(self.yes.is_none() && cx.can_ask()) => {
                let error = anyhow!("{} to be deleted, and nobody said that this is right", znodes_are(delete));
                Err(CommandError::usage(error).hint(format!("look at the plan; then: --yes {delete}")))
            }
            Some(None) => Ok(()),
            None if delete > 0 => {
                let typed = ask(&format!("{} to be deleted. Type the number to go on:", znodes_are(delete)))?;
                match typed.parse() == Ok(delete) {
                    true => Ok(()),
                    false => Err(nothing_done(format!("'{}' is not {delete}", typed.escape_debug()))),
                }
            }
            None if cx.can_ask() => {
                let answer = ask(&format!("Create {create} and change {change}? [y/N]"))?;
                match matches!(answer.to_lowercase().as_str(), "y" | "yes") {
                    true => Ok(()),
                    false => Err(CommandError::negative(anyhow!("nothing was done"))),
                }
            }
            None => Ok(()),
        }
    }
}

fn nothing_done(why: String) -> CommandError {
    CommandError::negative(anyhow!("{why}: nothing was done"))
}

fn znodes_are(count: usize) -> String {
    match count {
        1 => "1 znode is".to_owned(),
        count => format!("{count} znodes are"),
    }
}

fn ask(question: &str) -> Result<String, CommandError> {
    eprint!("{question} ");
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| CommandError::failure(error).context("cannot read the answer"))?;
    Ok(answer.trim().to_owned())
}
