//! What holds for the command line as a whole, and the page of the manual that shows it.

use std::fmt::Write;

use clap::CommandFactory;
use expect_test::expect_file;

use super::*;

const PAGE_HEAD: &str = "\
# Command line

Every command with its help, as `grange COMMAND -h` prints it. A test writes this page anew and compares.
";

#[test]
fn the_definition_of_the_arguments_is_sound() {
    Cli::command().debug_assert();
}

/// After a change of the arguments: `UPDATE_EXPECT=1 cargo test -p grange manual`.
#[test]
fn the_manual_shows_the_help_of_every_command() {
    let mut page = PAGE_HEAD.to_owned();
    let mut cli = Cli::command().term_width(100);
    cli.build();
    render("grange", &mut cli, &mut page);
    expect_file!["../../../docs/command-line.md"].assert_eq(&page);
}

fn render(name: &str, command: &mut clap::Command, page: &mut String) {
    let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let about = about.split_once("\n\n").map(|(_, more)| format!("{more}\n\n")).unwrap_or_default();
    let help = command.render_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## {name}\n\n{about}```text\n{}\n```\n", help.join("\n").trim_end()).expect("a string takes it");
    let is_shown = |subcommand: &&mut clap::Command| subcommand.get_name() != "help" && !subcommand.is_hide_set();
    for subcommand in command.get_subcommands_mut().filter(is_shown) {
        let name = format!("{name} {}", subcommand.get_name());
        render(&name, subcommand, page);
    }
}
