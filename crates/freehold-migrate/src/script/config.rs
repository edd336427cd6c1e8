//! `<script>.sql.conf`: Flyway's settings of one script, in Java's properties format.

use crate::{Refusal, RefusalCode, refusal::Place};

/// What a script's `.conf` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScriptConfig {
    pub execute_in_transaction: Option<bool>,
    pub placeholder_replacement: Option<bool>,
    /// The project's, as no script says it: a script that mixes statements runs outside a transaction.
    pub mixed: bool,
}

impl ScriptConfig {
    /// # Errors
    /// An unknown key, a value that is neither `true` nor `false`, an encoding other than UTF-8.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, Refusal> {
        let mut config = Self::default();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let place = Place {
                line: u32::try_from(index + 1).unwrap_or(u32::MAX),
                column: 1,
            };
            let (key, value) = line.split_once(['=', ':']).unwrap_or((line, ""));
            config
                .set(key.trim(), value.trim())
                .map_err(|refusal| refusal.in_file(file).at(place))?;
        }
        Ok(config)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        let refuse = |reason: String, advice: &str| {
            Err(Refusal::new(RefusalCode::InvalidConfig, reason, advice))
        };
        let target = match key {
            "executeInTransaction" => &mut self.execute_in_transaction,
            "placeholderReplacement" => &mut self.placeholder_replacement,
            "encoding" if ["utf-8", "utf8"].contains(&value.to_ascii_lowercase().as_str()) => {
                return Ok(());
            }
            "encoding" => {
                return refuse(
                    format!("scripts are UTF-8, not {value}"),
                    "Convert the script to UTF-8 and remove the line.",
                );
            }
            "shouldExecute" => {
                return refuse(
                    "shouldExecute is not supported".to_owned(),
                    "Remove the line, or put the condition into a DO block of the script.",
                );
            }
            _ => {
                return refuse(
                    format!("{key:?} is no setting of a script"),
                    "Known are executeInTransaction, encoding and placeholderReplacement.",
                );
            }
        };
        *target = match value.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => return refuse(format!("{key} is {value:?}"), "Write true or false."),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_settings_are_read_and_anything_else_is_an_error() {
        let parse = |text: &str| ScriptConfig::parse("V1.sql.conf", text);
        let config =
            parse("# why\nexecuteInTransaction = false\r\nencoding=UTF-8\n").expect("valid");
        assert_eq!(config.execute_in_transaction, Some(false));
        assert_eq!(config.placeholder_replacement, None);
        for wrong in [
            "executeInTransactions=false",
            "executeInTransaction=maybe",
            "executeInTransaction",
            "encoding=ISO-8859-1",
            "shouldExecute=true",
        ] {
            let refusal = parse(&format!("\n{wrong}")).expect_err(wrong);
            assert_eq!(
                (refusal.code, refusal.line),
                (RefusalCode::InvalidConfig, Some(2))
            );
        }
    }
}
