//! Manifests from files, folders and standard input, as one text for one request.
//!
//! The server tells where a fault is by document and line of that text; [`Manifests::locate`] turns
//! that into the file and the line that the user wrote.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use crate::failure::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(crate) struct Sources {
    /// A manifest file, a folder of them, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// Go into folders of folders
    #[arg(short = 'R', long)]
    recursive: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifests {
    pub text: String,
    /// Each file and the line of `text` that its first line became, from 1.
    starts: Vec<(usize, String)>,
}

impl Sources {
    pub(crate) async fn read(&self) -> Outcome<Manifests> {
        let mut manifests = Manifests::default();
        for source in &self.filename {
            if source.as_os_str() == "-" {
                let read = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin()));
                let text = read
                    .await
                    .map_err(io::Error::other)
                    .and_then(|text| text)
                    .map_err(|e| Failure::failed("standard input cannot be read").because(&e))?;
                manifests.add("standard input", &text);
                continue;
            }
            for path in self.files_of(source)? {
                let text = fs::read_to_string(&path)
                    .map_err(|e| Failure::on_file("cannot read", &path, &e))?;
                manifests.add(&path.display().to_string(), &text);
            }
        }
        Ok(manifests)
    }

    /// The file itself, or the manifests of a folder in the order of their names.
    fn files_of(&self, source: &Path) -> Outcome<Vec<PathBuf>> {
        if !source.is_dir() {
            return Ok(vec![source.to_owned()]);
        }
        let mut files = Vec::new();
        self.collect(source, &mut files)?;
        if files.is_empty() {
            let message = format!("{} holds no manifests", source.display());
            return Err(Failure::not_found(message)
                .hint("Manifests end in .yaml, .yml or .json; -R looks into folders of folders."));
        }
        Ok(files)
    }

    fn collect(&self, folder: &Path, files: &mut Vec<PathBuf>) -> Outcome {
        let failed = |e: io::Error| Failure::on_file("cannot read", folder, &e);
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        entries.sort();
        for path in entries {
            let extension = path.extension().and_then(|e| e.to_str());
            // A link to a folder could lead round in a circle.
            if path.is_dir() && self.recursive && !path.is_symlink() {
                self.collect(&path, files)?;
            } else if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
                files.push(path);
            }
        }
        Ok(())
    }
}

impl Manifests {
    fn add(&mut self, name: &str, text: &str) {
        if !self.starts.is_empty() {
            if !self.text.ends_with('\n') {
                self.text.push('\n');
            }
            self.text.push_str("---\n");
        }
        let line = self.text.lines().count() + 1;
        self.starts.push((line, name.to_owned()));
        // A byte order mark is allowed at the beginning of a text only.
        self.text.push_str(text.trim_start_matches('\u{feff}'));
    }

    /// Rewrites each line that begins with `document N, line L, column C:` to `FILE:L:C:`.
    pub(crate) fn locate(&self, message: &str) -> String {
        let mut out = String::new();
        for (index, line) in message.lines().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            match self.place(line) {
                Some((file, line, column, rest)) => {
                    write!(out, "{file}:{line}:{column}:{rest}").expect("writing to a String");
                }
                None => out.push_str(line),
            }
        }
        out
    }

    fn place<'a>(&self, text: &'a str) -> Option<(&str, usize, &'a str, &'a str)> {
        let (_, rest) = text.strip_prefix("document ")?.split_once(", line ")?;
        let (line, rest) = rest.split_once(", column ")?;
        let (column, rest) = rest.split_once(':')?;
        let line: usize = line.parse().ok()?;
        let (start, file) = self.starts.iter().rev().find(|(start, _)| *start <= line)?;
        Some((file, line - start + 1, column, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_by_file_and_line() {
        let mut manifests = Manifests::default();
        manifests.add("a.yaml", "kind: Team\nspec: {}");
        manifests.add("b.yaml", "\u{feff}kind: Database\nspec: {}\n");
        manifests.add("c.yaml", "kind: Class\n");
        assert_eq!(
            manifests.text,
            "kind: Team\nspec: {}\n---\nkind: Database\nspec: {}\n---\nkind: Class\n"
        );
        let located = manifests.locate(
            "the manifests cannot be applied\n\
             document 1, line 2, column 7: Team/a: x\n\
             document 2, line 5, column 1: spec: y\n\
             document 3, line 7, column 3: z",
        );
        assert_eq!(
            located,
            "the manifests cannot be applied\n\
             a.yaml:2:7: Team/a: x\n\
             b.yaml:2:1: spec: y\n\
             c.yaml:1:3: z"
        );
    }

    #[test]
    fn folders_are_read_in_order_and_hold_manifests_only() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("b.yml", "b"), ("a.yaml", "a"), ("c.txt", "c")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/d.json"), "d").unwrap();
        let names = |recursive| {
            let sources = Sources {
                filename: vec![],
                recursive,
            };
            let files = sources.files_of(folder.path()).unwrap();
            let names = files
                .iter()
                .map(|f| f.file_name().unwrap().to_str().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["a.yaml", "b.yml"]);
        assert_eq!(names(true), ["a.yaml", "b.yml", "d.json"]);
    }
}
