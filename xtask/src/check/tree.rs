//! The text files of the repository, as the checks see them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// What is built or fetched, and no part of the repository.
const NOT_OURS: [&str; 4] = [".git", "target", "node_modules", "artifacts"];

/// A file, by its path inside the repository.
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

/// All files below a folder, in the order of their paths; bytes that are no UTF-8 are replaced.
pub(super) fn files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(read(root, entry.path())?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read(root: &Path, path: PathBuf) -> Result<File> {
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let inside = path.strip_prefix(root)?.to_string_lossy().into_owned();
    Ok(File { path: inside, text: String::from_utf8_lossy(&bytes).into_owned() })
}
