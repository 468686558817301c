//! The arguments of zkCli: options in Java's manner, then perhaps a command.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use grange_client::Servers;

use super::failure::Failure;
use super::zk::SessionSettings;

/// Where zkCli looks when nobody says where the ensemble is.
const DEFAULT_SERVER: &str = "localhost:2181";

/// The session timeout that is asked for, in milliseconds.
const DEFAULT_TIMEOUT_MS: &str = "30000";

/// The longest reply that is taken unless `jute.maxbuffer` is set: as in Java's library.
const DEFAULT_REPLY_BYTES_MAX: usize = 0xf_ffff;

/// The arguments, understood.
#[derive(Debug)]
pub(super) struct Arguments {
    /// As it was written; it is printed.
    pub(super) server_text: String,
    pub(super) servers: Servers,
    pub(super) settings: SessionSettings,
    pub(super) waits_for_connection: bool,
    /// The words of the command, if there is one.
    pub(super) command: Option<Vec<String>>,
    /// What is said about the arguments on standard error.
    pub(super) notes: Vec<String>,
}

/// Parses the arguments.
pub(super) fn parse(arguments: Vec<OsString>) -> Result<Arguments, Failure> {
    let mut words = arguments.into_iter().map(|word| word.to_string_lossy().into_owned());
    let mut server_text = DEFAULT_SERVER.to_owned();
    let mut timeout_text = DEFAULT_TIMEOUT_MS.to_owned();
    let (mut read_only, mut waits_for_connection) = (false, false);
    let mut reply_bytes_max = DEFAULT_REPLY_BYTES_MAX;
    let mut command = None;
    let mut notes = Vec::new();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| missing(&word));
        match word.as_str() {
            "-server" => server_text = value()?,
            "-timeout" => timeout_text = value()?,
            "-client-configuration" => {
                let configuration = read_configuration(&value()?)?;
                reply_bytes_max = configuration.reply_bytes_max.unwrap_or(reply_bytes_max);
                notes.extend(configuration.notes);
            }
            "-r" => read_only = true,
            "-waitforconnection" => waits_for_connection = true,
            option if option.starts_with('-') => notes.push(format!("the option {option} is not known and is ignored")),
            _ => {
                command = Some(std::iter::once(word).chain(words).collect());
                break;
            }
        }
    }
    let timeout_ms: i32 = timeout_text.parse().map_err(|_| super::options::not_a_number(&timeout_text))?;
    let servers = Servers::parse(&server_text).map_err(|error| Failure::plain(error.to_string()))?;
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let settings = SessionSettings { timeout, read_only, reply_bytes_max };
    Ok(Arguments { server_text, servers, settings, waits_for_connection, command, notes })
}

fn missing(option: &str) -> Failure {
    Failure::plain(format!("Error: no argument found for option {option}"))
}

/// What is used of a file of client settings.
#[derive(Debug, Default)]
struct Configuration {
    reply_bytes_max: Option<usize>,
    notes: Vec<String>,
}

fn read_configuration(path: &str) -> Result<Configuration, Failure> {
    let wrong = |why: String| Failure::plain(format!("Error processing {path}: {why}"));
    let bytes = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let settings = java_properties::read(&bytes[..]).map_err(|error| wrong(error.to_string()))?;
    let mut configuration = Configuration::default();
    let mut ignored = Vec::new();
    for (key, value) in settings {
        match key.as_str() {
            "jute.maxbuffer" => {
                let bytes = value.trim().parse().map_err(|_| wrong(format!("{key}={value} is no number of bytes")))?;
                configuration.reply_bytes_max = Some(bytes);
            }
            "zookeeper.client.secure" if value.trim().eq_ignore_ascii_case("true") => {
                return Err(wrong(format!("{key}=true, and connections with TLS are not there yet")));
            }
            _ => ignored.push(key),
        }
    }
    if !ignored.is_empty() {
        ignored.sort();
        configuration.notes.push(format!("settings in {path} that are not used: {}", ignored.join(", ")));
    }
    Ok(configuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, Failure> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn options_come_before_the_command() {
        let arguments = parsed("-server a:1,b:2/c -timeout 5000 -r ls -R /").unwrap();
        assert_eq!(arguments.servers.to_string(), "a:1,b:2/c");
        assert_eq!(arguments.settings.timeout, Duration::from_secs(5));
        assert!(arguments.settings.read_only && !arguments.waits_for_connection);
        assert_eq!(arguments.command.unwrap(), ["ls", "-R", "/"]);
        assert_eq!(parsed("").unwrap().server_text, "localhost:2181");
    }

    #[test]
    fn mistakes_end_the_run() {
        let failure = |line| parsed(line).unwrap_err().message().to_owned();
        assert_eq!(failure("-server"), "Error: no argument found for option -server");
        assert_eq!(failure("-timeout x"), "For input string: \"x\"");
        assert!(failure("-server a:b").contains("does not end with a port"));
        assert!(failure("-client-configuration /does/not/exist").starts_with("Error processing /does/not/exist: "));
        assert_eq!(parsed("-x ls").unwrap().notes, ["the option -x is not known and is ignored"]);
    }

    #[test]
    fn a_file_of_settings_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("client.cfg");
        let path = file.to_str().unwrap();
        fs::write(&file, "jute.maxbuffer=5000000\nzookeeper.request.timeout=5\n").unwrap();
        let configuration = read_configuration(path).unwrap();
        assert_eq!(configuration.reply_bytes_max, Some(5_000_000));
        assert_eq!(configuration.notes.len(), 1);
        fs::write(&file, "zookeeper.client.secure=true\n").unwrap();
        assert!(read_configuration(path).unwrap_err().message().contains("TLS"));
    }
}
