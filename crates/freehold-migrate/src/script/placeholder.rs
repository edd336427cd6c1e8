//! `${name}`: replaced before a script is cut, in comments and strings too, as Flyway does it.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{Refusal, RefusalCode, Settings, script::place::Lines};

/// What the names stand for.
#[derive(Debug, Clone)]
pub(crate) struct Values<'s> {
    settings: &'s Settings,
    /// Flyway's own, by their names in small letters; known when a database is.
    own: BTreeMap<&'static str, String>,
    /// Without a database its own names stand for themselves, so that a script can be looked at.
    has_database: bool,
}

/// The names that Flyway itself gives values to.
const OWN: &[&str] = &[
    "flyway:defaultschema",
    "flyway:user",
    "flyway:database",
    "flyway:timestamp",
    "flyway:filename",
    "flyway:workingdirectory",
    "flyway:table",
    "flyway:environment",
];

impl<'s> Values<'s> {
    pub(crate) fn without_database(settings: &'s Settings) -> Self {
        Self {
            settings,
            own: BTreeMap::new(),
            has_database: false,
        }
    }

    pub(crate) fn of_database(settings: &'s Settings, own: BTreeMap<&'static str, String>) -> Self {
        Self {
            settings,
            own,
            has_database: true,
        }
    }

    fn value<'a>(&'a self, name: &str, path: &'a str) -> Option<&'a str> {
        let name = name.to_lowercase();
        if let Some(value) = self.settings.placeholders.get(&name) {
            return Some(value);
        }
        if name == "flyway:filename" {
            return Some(path.rsplit('/').next().unwrap_or(path));
        }
        let own = OWN.iter().find(|own| **own == name)?;
        match self.own.get(own) {
            Some(value) => Some(value),
            None => (!self.has_database).then_some(own),
        }
    }

    /// The text with its values.
    ///
    /// # Errors
    /// The first name without a value, with its place.
    pub(crate) fn fill<'t>(
        &self,
        path: &str,
        text: &'t str,
        replace: Option<bool>,
    ) -> Result<Cow<'t, str>, Box<Refusal>> {
        let Settings {
            placeholder_replacement,
            placeholder_prefix: prefix,
            placeholder_suffix: suffix,
            ..
        } = self.settings;
        if !replace.unwrap_or(*placeholder_replacement) || !text.contains(prefix.as_str()) {
            return Ok(Cow::Borrowed(text));
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(prefix.as_str()) {
            let Some((name, behind)) = after.split_once(suffix.as_str()) else {
                break;
            };
            let Some(value) = self.value(name, path) else {
                let at = text.len() - rest.len() + before.len();
                return Err(Box::new(
                    self.missing(name, prefix, suffix)
                        .in_file(path)
                        .at(Lines::of(text).place(text, at)),
                ));
            };
            filled.push_str(before);
            filled.push_str(value);
            rest = behind;
        }
        filled.push_str(rest);
        Ok(Cow::Owned(filled))
    }

    fn missing(&self, name: &str, prefix: &str, suffix: &str) -> Refusal {
        let name: String = name.chars().take(80).collect();
        Refusal::new(
            RefusalCode::Placeholder,
            format!("no value is given for the placeholder {prefix}{name}{suffix}"),
            "Give it one in flyway.toml, or with --placeholder name=value. If the text is meant as it stands, say placeholderReplacement=false in the script's .sql.conf.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.placeholders.insert("owner".into(), "shop".into());
        settings
    }

    #[test]
    fn names_are_replaced_everywhere_whatever_their_letters() {
        let settings = settings();
        let own = BTreeMap::from([("flyway:user", "me".to_owned())]);
        let values = Values::of_database(&settings, own);
        let fill = |text| values.fill("a/V1__x.sql", text, None).expect("filled");
        assert_eq!(
            fill("-- ${OWNER}\nSELECT '${owner}', '${flyway:USER}', '${flyway:filename}'"),
            "-- shop\nSELECT 'shop', 'me', 'V1__x.sql'"
        );
        assert_eq!(fill("SELECT '${never closed"), "SELECT '${never closed");
        assert!(matches!(fill("SELECT $1"), Cow::Borrowed(_)));
        let untouched = values
            .fill("x", "${nobody}", Some(false))
            .expect("untouched");
        assert_eq!(untouched, "${nobody}");
    }

    #[test]
    fn a_name_without_a_value_is_refused_where_it_stands() {
        let settings = settings();
        let values = Values::of_database(&settings, BTreeMap::new());
        let refusal = values
            .fill("V1.sql", "SELECT 1;\n  SELECT ${owner}, ${nobody}", None)
            .expect_err("no value");
        assert_eq!((refusal.line, refusal.column), (Some(2), Some(20)));
        assert!(refusal.reason.contains("${nobody}"), "{}", refusal.reason);
    }

    #[test]
    fn without_a_database_flyways_own_names_have_stand_ins() {
        let settings = Settings::default();
        let values = Values::without_database(&settings);
        let filled = values.fill("x.sql", "SELECT '${flyway:timestamp}'", None);
        assert_eq!(filled.expect("filled"), "SELECT 'flyway:timestamp'");
    }

    #[test]
    fn other_marks_are_possible() {
        let mut settings = settings();
        settings.placeholder_prefix = "__".to_owned();
        settings.placeholder_suffix = "__".to_owned();
        let values = Values::without_database(&settings);
        let filled = values.fill("x.sql", "SELECT '__owner__', '${owner}'", None);
        assert_eq!(filled.expect("filled"), "SELECT 'shop', '${owner}'");
    }
}
