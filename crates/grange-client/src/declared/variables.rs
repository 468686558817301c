//! `${NAME}` in text.

use std::collections::BTreeMap;

/// What a name of a variable is made of, for an error.
pub(crate) const NAME_EXPECTED: &str = "a name is made of letters, digits, - and _";

/// Tells whether `name` may name a variable.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The variables of a declaration.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    values: BTreeMap<String, String>,
    /// Those that a file may not change.
    given: Vec<String>,
}

impl Variables {
    /// Variables from the command line, which win over those of files.
    pub(crate) fn given(variables: Vec<(String, String)>) -> Variables {
        let given = variables.iter().map(|(name, _)| name.clone()).collect();
        Variables { values: variables.into_iter().collect(), given }
    }

    /// Sets a variable from a file; a later file wins.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        if !self.is_given(name) {
            self.values.insert(name.to_owned(), value);
        }
    }

    /// Tells whether the command line sets it.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.iter().any(|given| given == name)
    }

    /// Replaces each `${NAME}` by the variable's text, once, and each `$${` by `${`.
    ///
    /// Errors: what is wrong, in words.
    pub(crate) fn expand(&self, text: &str) -> Result<String, String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            expanded += &rest[..dollar];
            rest = &rest[dollar..];
            if let Some(after) = rest.strip_prefix("$${") {
                expanded += "${";
                rest = after;
            } else if let Some(after) = rest.strip_prefix("${") {
                let (name, after) =
                    after.split_once('}').ok_or("there is no } behind ${ (a plain ${ is written $${)")?;
                expanded += self.values.get(name).ok_or_else(|| format!("there is no variable {name}"))?;
                rest = after;
            } else {
                expanded.push('$');
                rest = &rest[1..];
            }
        }
        expanded += rest;
        Ok(expanded)
    }
}

/// Writes text so that [`Variables::expand`] gives it back.
pub(crate) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables() -> Variables {
        Variables::given(vec![("a".to_owned(), "${b}$".to_owned()), ("b-c".to_owned(), String::new())])
    }

    #[test]
    fn variables_are_replaced_once() {
        for (text, expanded) in
            [("", ""), ("x${a}y${a}", "x${b}$y${b}$"), ("$ $$ $x ${b-c}", "$ $$ $x "), ("$${a} $$${a}", "${a} $${a}")]
        {
            assert_eq!(variables().expand(text).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        assert_eq!(variables().expand("${c}").unwrap_err(), "there is no variable c");
        assert!(variables().expand("${a").unwrap_err().contains("no } behind"));
    }

    #[test]
    fn a_file_does_not_change_what_the_command_line_sets() {
        let mut variables = variables();
        variables.set("a", "file".to_owned());
        variables.set("new", "file".to_owned());
        assert_eq!(variables.expand("${a} ${new}").unwrap(), "${b}$ file");
    }

    proptest! {
        #[test]
        fn what_is_escaped_expands_to_itself(text in "[$]{0,3}[{a}$]{0,9}") {
            prop_assert_eq!(variables().expand(&escape(&text)), Ok(text));
        }
    }
}
