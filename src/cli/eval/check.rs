//! `smolt eval --check`: which task files could be run here, and why the others could not.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::error::{CliError, Exit};
use crate::cli::output::{self, note, printable};
use crate::eval::tasks::{Task, TaskError};

/// What can be said of a task file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    /// It is there with its documents.
    Runs,
    /// It could be run if its documents were here.
    NeedsDocuments,
    /// It is made of other tasks.
    Group,
    /// Other files include it.
    Part,
    NeedsPython,
    CannotRun,
}

impl Status {
    const ALL: [(Status, &str); 6] = [
        (Status::Runs, "runs"),
        (Status::NeedsDocuments, "needs documents"),
        (Status::Group, "group"),
        (Status::Part, "part"),
        (Status::NeedsPython, "needs Python"),
        (Status::CannotRun, "cannot run"),
    ];

    fn of(checked: &Result<(), TaskError>) -> Status {
        match checked {
            Ok(()) => Status::Runs,
            Err(TaskError::Remote { .. }) => Status::NeedsDocuments,
            Err(TaskError::Group { .. }) => Status::Group,
            Err(TaskError::Partial { .. }) => Status::Part,
            Err(TaskError::Python { .. }) => Status::NeedsPython,
            Err(_) => Status::CannotRun,
        }
    }

    fn name(self) -> &'static str {
        Status::ALL.iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }
}

#[derive(Serialize)]
struct Checked {
    file: String,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Checks task files, and those in folders and the folders in them. Exit code 2 if one could not be run even with its
/// documents.
pub(super) fn execute(paths: &[PathBuf], json: bool) -> Result<Exit, CliError> {
    let mut files = vec![];
    for path in paths {
        if path.is_dir() { walk(path, &mut files) } else { files.push(path.clone()) }
    }
    if files.is_empty() {
        return Err(CliError::NoTask);
    }
    let check = |file: &PathBuf| {
        let checked = Task::check_file(file);
        let status = Status::of(&checked);
        Checked {
            file: file.display().to_string(),
            status,
            reason: checked.err().map(|error| output::with_causes(&error)),
        }
    };
    let checked: Vec<Checked> = files.iter().map(check).collect();
    if json {
        output::write_json(&checked)?;
    } else {
        let line = |found: &Checked| {
            let reason = found.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let line = format!("{}: {}{reason}", found.file, found.status.name()).replace('\n', " ");
            printable(&line).into_owned() + "\n"
        };
        output::table(&checked.iter().map(line).collect::<String>())?;
    }
    let count = |status: Status| checked.iter().filter(|found| found.status == status).count();
    let counts = Status::ALL.map(|(status, name)| (count(status), name));
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let files = if checked.len() == 1 { "file" } else { "files" };
    note(format_args!("{} {files}: {}", checked.len(), counts.join(", ")));
    let is_bad = count(Status::NeedsPython) + count(Status::CannotRun) > 0;
    Ok(if is_bad { Exit::Usage } else { Exit::Ok })
}

/// The task files below a folder, by name. Links are not followed.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.is_symlink() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}
