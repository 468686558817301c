//! The program as `zkinitree`: the command line of vsc-zk's, and its exit statuses.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use grange_client::declared::{self, Applied, Form, PlanOptions, Source};

use super::apply::{failed, refuse_obstacles};
use super::print::{applied_line, print_before_it_is_done};
use super::read;
use super::session::Session;
use crate::connection::ConnectionArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::{logging, threads};

/// The exit status of whatever goes wrong, as of an exception in Python.
const FAILED: u8 = 1;

/// What is logged under --debug; the client library's lines are about the protocol.
const DEBUG_LEVEL: &str = "debug,zookeeper_client=warn";

/// Make the znodes of configuration files, with their ACLs
#[derive(Debug, Parser)]
#[command(name = "zkinitree", version, max_term_width = 100, disable_help_flag = true)]
#[command(after_help = "This is grange; more of the same kind: grange tree --help. Exit status: 0 done, 1 failure, \
                        2 wrong usage.")]
struct ZkinitreeArgs {
    /// The files, of which later ones win
    #[arg(long, value_name = "FILE,FILE", value_delimiter = ',', required = true)]
    configfiles: Vec<PathBuf>,
    /// Files that are not read although --configfiles names them
    #[arg(long, value_name = "FILE,FILE", value_delimiter = ',')]
    ignoreconfigfiles: Vec<PathBuf>,
    /// Print what is changed
    #[arg(long)]
    info: bool,
    /// Print what is changed, and how
    #[arg(short, long)]
    debug: bool,
    /// Print errors only; so it is anyway
    #[arg(long)]
    quiet: bool,
    /// Print this
    #[arg(short = 'h', long, visible_short_alias = 'H', action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    logging: logging::LoggingArgs,
}

/// Runs with the arguments behind the program's name.
pub(crate) fn main(cx: Context, arguments: Vec<OsString>) -> ExitCode {
    let args = ZkinitreeArgs::parse_from(std::iter::once(OsString::from("zkinitree")).chain(arguments));
    let level = if args.debug { DEBUG_LEVEL } else { logging::TOOL_LEVEL };
    let started = logging::start(&args.logging, level);
    match started.and_then(|()| threads::run(run(&cx, args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report();
            ExitCode::from(FAILED)
        }
    }
}

async fn run(cx: &Context, args: ZkinitreeArgs) -> Result<(), CommandError> {
    let ignored = &args.ignoreconfigfiles;
    let files = args.configfiles.iter().filter(|file| !ignored.contains(file)).cloned().collect();
    let declared = read(&Source { files, form: Some(Form::Zkinitree), ..Source::default() })?;
    let session = Session::open(args.connection, &declared).await?;
    let result = async {
        let plan = session.plan(&declared, PlanOptions::default(), false).await?;
        let is_told = (args.info || args.debug) && !args.quiet;
        if is_told {
            print_before_it_is_done(cx, &plan)?;
        }
        refuse_obstacles(&plan)?;
        let mut applied = Applied::default();
        let done = declared::apply(&session.client, &plan, &mut applied).await;
        done.map_err(|error| failed(error, applied))?;
        if is_told && !plan.is_empty() {
            eprintln!("{}", applied_line(applied));
        }
        Ok(())
    }
    .await;
    grange_client::close(session.client).await;
    result
}
