//! Where the programs under test are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The binary of MetaStore: `METASTORE_BIN` if set, else the one that cargo built into the target folder
/// this test runs from (same profile first). Fails with what to do when there is none.
pub fn metastore_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("METASTORE_BIN") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("METASTORE_BIN names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let test = env::current_exe().context("where this test's binary is")?;
    let profile = profile_folder(&test).with_context(|| {
        format!(
            "{} is not in a cargo target folder; set METASTORE_BIN",
            test.display()
        )
    })?;
    let target = profile.parent().unwrap_or(profile);
    let mut candidates = vec![profile.join("metastore")];
    candidates.extend(["release", "debug"].map(|name| target.join(name).join("metastore")));
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => bail!(
            "no metastore binary in {}: run `cargo build --bin metastore` first, or set METASTORE_BIN",
            target.display()
        ),
    }
}

/// One of the programs that `tests/reference/build.sh` builds: `etcd`, `etcdctl`, `etcdutl`, `benchmark`.
pub fn reference_binary(name: &str) -> Result<PathBuf> {
    let folder = cache_folder()?.join("reference");
    let path = folder.join(name);
    if !path.is_file() {
        bail!(
            "no {name} in {}: run tests/reference/build.sh first",
            folder.display()
        );
    }
    Ok(path)
}

/// Where the scripts keep what they build, as `scripts/environment.sh`.
pub fn cache_folder() -> Result<PathBuf> {
    if let Some(path) = env::var_os("METASTORE_CACHE") {
        return Ok(PathBuf::from(path));
    }
    if let Some(path) = env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(path).join("metastore"));
    }
    let home =
        env::var_os("HOME").context("neither METASTORE_CACHE, XDG_CACHE_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/metastore"))
}

/// `target/<profile>` of `target/<profile>/deps/<test>`.
fn profile_folder(test: &Path) -> Option<&Path> {
    let folder = test.parent()?;
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.parent()
    } else {
        Some(folder)
    }
}
