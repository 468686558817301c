//! Targets that are made of lines: an environment, `/etc/hosts`, and what HAProxy and nginx read.
//!
//! None of these has a form for any text, except the environment. So names and addresses are of few characters, ports and
//! weights are numbers, and a host with anything else is left out and told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::Value;

use super::rendered::{Export, LeftOut, RenderError, Rendered};
use crate::properties::{FieldPath, Properties, text_of};

/// What the fields are called that these targets need, and what to do without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineOptions {
    name: String,
    /// The field with a host's address; a host without it has its own name for an address. `address` unless set.
    pub address: FieldPath,
    /// The field with a host's name in `/etc/hosts`. `hostname` unless set.
    pub hostname: FieldPath,
    /// The field with a port. `port` unless set.
    pub port: FieldPath,
    /// The port of hosts without that field; without it they are left out.
    pub default_port: Option<u16>,
    /// The field with a weight, which may be missing. `weight` unless set.
    pub weight: FieldPath,
    /// The field that says whether a host is to get requests; one without it does. `enabled` unless set.
    pub enabled: FieldPath,
}

/// Why a farm cannot have a name in a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' cannot be the name of a backend: it has letters, digits, '-', '_' and '.' only, and 64 at most")]
pub struct LineOptionsError {
    /// The name.
    pub name: String,
}

impl LineOptions {
    /// Returns the usual options for a farm by this name: that is what its backend or upstream is called, and the names in
    /// an environment begin with it.
    pub fn new(name: &str) -> Result<LineOptions, LineOptionsError> {
        let is_one = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_one) {
            return Err(LineOptionsError { name: name.to_owned() });
        }
        let field = |name: &str| name.parse().expect("it is the name of a field");
        Ok(LineOptions {
            name: name.to_owned(),
            address: field("address"),
            hostname: field("hostname"),
            port: field("port"),
            default_port: None,
            weight: field("weight"),
            enabled: field("enabled"),
        })
    }
}

/// The greatest weight that HAProxy knows. nginx knows greater ones, but both are for one farm.
const WEIGHT_MAX: u32 = 256;

/// Assignments that a POSIX shell reads: one for the list of hosts, and one for each field.
pub(super) fn env(export: &Export, options: &LineOptions) -> Result<Rendered, RenderError> {
    let prefix = format!("FARM_{}", env_name(&options.name));
    let mut rendered = Lines::default();
    let mut taken = BTreeMap::new();
    let mut listed = Vec::new();
    let list = format!("{prefix}_HOSTS");
    taken.insert(list.clone(), "the list of hosts".to_owned());
    let mut lines = String::new();
    for (name, host) in &export.hosts {
        if !is_token(name) {
            rendered.leave(name, "its name is no word, so that it cannot be in a list of hosts");
            continue;
        }
        listed.push(name.as_str());
        let mut fields = Vec::new();
        flatten(&mut fields, String::new(), host);
        for (field, value) in fields {
            let key = format!("{prefix}_{}_{}", env_name(name), env_name(&field));
            let text = text_of(value);
            if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
                rendered.leave(name, &format!("its field {} has control characters", quoted(&field)));
                continue;
            }
            let origin = format!("{} of {name}", quoted(&field));
            if let Some(first) = taken.insert(key.clone(), origin.clone()) {
                return Err(RenderError::Collision { name: key, first, second: origin });
            }
            writeln!(lines, "{key}={}", shell_word(&text)).expect("a String takes any text");
        }
    }
    rendered.text = format!("{list}={}\n{lines}", shell_word(&listed.join(" ")));
    Ok(rendered.into())
}

fn flatten<'a>(fields: &mut Vec<(String, &'a Value)>, above: String, object: &'a Properties) {
    let mut waiting: Vec<_> = object.fields().iter().rev().map(|(name, value)| (above.clone() + name, value)).collect();
    while let Some((path, value)) = waiting.pop() {
        match value.as_object() {
            Some(inner) => waiting.extend(inner.iter().rev().map(|(name, value)| (format!("{path}.{name}"), value))),
            None => fields.push((path, value)),
        }
    }
}

/// Upper case, and whatever else a name in an environment may not have is `_`.
fn env_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Quotes text so that a POSIX shell takes it for itself, whatever it is.
pub(super) fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Lines for `/etc/hosts`.
pub(super) fn hosts(export: &Export, options: &LineOptions) -> Rendered {
    let mut rendered = Lines::default();
    for (name, host) in &export.hosts {
        let line = address(name, host, options).and_then(|address| match address {
            Address::Ip(ip) => Ok((ip, hostname(host, options)?)),
            Address::Name(name) => Err(format!("'{name}' is no address")),
        });
        match line {
            Ok((ip, hostname)) => rendered.line(format_args!("{ip}\t{hostname}")),
            Err(why) => rendered.leave(name, &why),
        }
    }
    rendered.into()
}

fn hostname(host: &Properties, options: &LineOptions) -> Result<String, String> {
    let hostname = host.get(&options.hostname).ok_or_else(|| format!("it has no field {}", options.hostname))?;
    let text = text_of(hostname);
    // Whoever may name a host must not be able to say where this machine itself is.
    let is_own = text.eq_ignore_ascii_case("localhost") || text.to_ascii_lowercase().ends_with(".localhost");
    if !is_hostname(&text) || text.parse::<IpAddr>().is_ok() || is_own {
        return Err(format!("its {} {} is not a name for a host", options.hostname, quoted(&text)));
    }
    Ok(text.into_owned())
}

/// A `backend` section, complete but for what `defaults` says.
pub(super) fn haproxy(export: &Export, options: &LineOptions) -> Rendered {
    let mut rendered = Lines::default();
    rendered.line(format_args!("backend {}", options.name));
    for (name, host) in &export.hosts {
        match Server::of(name, host, options) {
            Ok(server) => {
                let weight = server.weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
                let state = if server.is_enabled { "" } else { " disabled" };
                let at = server.at();
                rendered.line(format_args!("    server {name} {at}{weight} check{state}"));
            }
            Err(why) => rendered.leave(name, &why),
        }
    }
    rendered.into()
}

/// An `upstream` block. nginx refuses one without servers, so without hosts it has one that is down.
pub(super) fn nginx(export: &Export, options: &LineOptions) -> Rendered {
    let mut rendered = Lines::default();
    rendered.line(format_args!("upstream {} {{", options.name));
    let mut is_empty = true;
    for (name, host) in &export.hosts {
        match Server::of(name, host, options) {
            Ok(server) => {
                is_empty = false;
                // nginx has no weight 0, which is to get no requests.
                let is_down = !server.is_enabled || server.weight == Some(0);
                let weight = server.weight.filter(|&weight| weight > 0);
                let weight = weight.map(|weight| format!(" weight={weight}")).unwrap_or_default();
                let state = if is_down { " down" } else { "" };
                rendered.line(format_args!("    server {}{weight}{state};", server.at()));
            }
            Err(why) => rendered.leave(name, &why),
        }
    }
    if is_empty {
        rendered.line(format_args!("    server 127.0.0.1:1 down;"));
    }
    rendered.line(format_args!("}}"));
    rendered.into()
}

#[derive(Default)]
struct Lines {
    text: String,
    left_out: Vec<LeftOut>,
}

impl Lines {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a String takes any text");
    }

    fn leave(&mut self, host: &str, why: &str) {
        self.left_out.push(LeftOut { host: host.to_owned(), why: why.to_owned() });
    }
}

impl From<Lines> for Rendered {
    fn from(lines: Lines) -> Rendered {
        Rendered { bytes: lines.text.into_bytes(), left_out: lines.left_out }
    }
}

enum Address {
    Ip(IpAddr),
    Name(String),
}

struct Server {
    address: Address,
    port: u16,
    weight: Option<u32>,
    is_enabled: bool,
}

impl Server {
    fn of(name: &str, host: &Properties, options: &LineOptions) -> Result<Server, String> {
        if !is_token(name) {
            return Err("its name has other characters than letters, digits, '.', '-', '_' and ':'".to_owned());
        }
        let port = match host.get(&options.port) {
            Some(port) => number(port, &options.port, 1, u16::MAX.into())?,
            None => options.default_port.map(u32::from).ok_or_else(|| format!("it has no field {}", options.port))?,
        };
        Ok(Server {
            address: address(name, host, options)?,
            port: port.try_into().expect("a port was asked for"),
            weight: host.get(&options.weight).map(|value| number(value, &options.weight, 0, WEIGHT_MAX)).transpose()?,
            is_enabled: host.get(&options.enabled).map_or(Ok(true), |value| yes_or_no(value, &options.enabled))?,
        })
    }

    fn at(&self) -> String {
        match &self.address {
            Address::Ip(IpAddr::V6(ip)) => format!("[{ip}]:{}", self.port),
            Address::Ip(ip) => format!("{ip}:{}", self.port),
            Address::Name(name) => format!("{name}:{}", self.port),
        }
    }
}

/// Returns where a host is: at what its field says, else at its own name.
fn address(name: &str, host: &Properties, options: &LineOptions) -> Result<Address, String> {
    let field = host.get(&options.address).map(text_of);
    let text = field.as_deref().unwrap_or(name);
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(Address::Ip(ip)),
        Err(_) if is_hostname(text) => Ok(Address::Name(text.to_owned())),
        Err(_) => Err(format!("{} is not an address", quoted(text))),
    }
}

/// Tells whether text is the name of a host: labels of letters, digits and `-`, the last of which is no number.
fn is_hostname(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Tells whether text is a word in which no configuration file sees anything but letters.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':'))
}

fn number(value: &Value, field: &FieldPath, min: u32, max: u32) -> Result<u32, String> {
    let text = text_of(value);
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_plain.then(|| text.parse().ok()).flatten().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("its {field} {} is not a number from {min} to {max}", quoted(&text)))
}

fn yes_or_no(value: &Value, field: &FieldPath) -> Result<bool, String> {
    let text = text_of(value);
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("its {field} {} is neither 1 nor 0, nor true, false, yes, no, on or off", quoted(&text))),
    }
}

/// Quotes what came from a host for a message: cut where it is long.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    let rest = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{rest}")
}

#[cfg(test)]
mod tests;
