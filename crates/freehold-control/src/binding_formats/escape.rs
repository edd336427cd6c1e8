//! One escaping per form.

use std::net::Ipv6Addr;

/// Everything but RFC 3986's unreserved characters is percent-encoded, so the text can stand in any
/// part of a URI. A `+` is, too: some parsers read it as a space.
pub(super) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(hex_digit(byte >> 4));
            encoded.push(hex_digit(byte & 15));
        }
    }
    encoded
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble)])
}

/// An IPv6 address stands in brackets; the folder of a Unix socket is percent-encoded, which libpq
/// understands.
pub(super) fn host_in_uri(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        percent(host)
    }
}

/// In `.pgpass` a backslash takes the meaning from `:` and from itself.
pub(super) fn pgpass_field(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

/// For a shell: between single quotes nothing has a meaning but the single quote.
pub(super) fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The name of a variable, behind its prefix.
pub(super) fn variable_name(prefix: Option<&str>, name: &str) -> String {
    let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) else {
        return name.to_owned();
    };
    let mut full = String::new();
    if prefix.starts_with(|c: char| c.is_ascii_digit()) {
        full.push('_');
    }
    full.extend(prefix.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    }));
    if !full.ends_with('_') {
        full.push('_');
    }
    full + name
}

/// A value in a `my.cnf` file: between double quotes, with the escapes that its reader knows.
pub(super) fn option_value(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
