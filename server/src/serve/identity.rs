//! Who this member is: computed once from the flags of a new cluster, as etcd does, then kept beside its
//! data, so that a restart does not depend on the flags that made it.
//!
//! `<data-dir>/member/IDENTITY`: `{"cluster_id":"<hex>","member_id":"<hex>","founders":[...]}`. The founders are kept
//! too: a process that ends before it has founded the cluster does so at its next start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use metastore_node::Member;
use metastore_state_machine::membership::identity::{cluster_id, member_id};
use serde::{Deserialize, Serialize};

use crate::config::{ClusterState, Config, Invalid};

const FILE: &str = "IDENTITY";

/// Cluster and member id, and the founders where the cluster is new.
pub(super) struct Identity {
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
    /// The members that the cluster begins with; without a meaning once it has begun.
    pub(super) founders: Vec<Member>,
}

/// Why it is not known who this member is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Flags(#[from] Invalid),
    #[error(
        "joining a running cluster (--initial-cluster-state=existing) is not supported by this version"
    )]
    Joining,
    #[error("{}: {error}", .path.display())]
    File { path: PathBuf, error: io::Error },
}

#[derive(Serialize, Deserialize)]
struct Stored {
    cluster_id: String,
    member_id: String,
    #[serde(default)]
    founders: Vec<Founder>,
}

#[derive(Serialize, Deserialize)]
struct Founder {
    id: String,
    name: String,
    peer_urls: Vec<String>,
}

impl Identity {
    /// Whether there is data to start from.
    pub(super) fn is_settled(config: &Config) -> bool {
        file_of(config).exists()
    }

    /// Reads what was kept, or computes it from the flags and keeps it.
    pub(super) fn settle(config: &Config) -> Result<Self, Error> {
        let path = file_of(config);
        let failed = |error| Error::File {
            path: path.clone(),
            error,
        };
        if let Some(stored) = read(&path).map_err(failed)? {
            return Ok(stored);
        }
        let identity = Self::found(config)?;
        write(&path, &identity).map_err(failed)?;
        Ok(identity)
    }

    fn found(config: &Config) -> Result<Self, Error> {
        let members = config.members_of_new_cluster()?;
        if config.cluster.state == ClusterState::Existing {
            return Err(Error::Joining);
        }
        let founders: Vec<Member> = members
            .iter()
            .map(|(name, urls)| {
                let peer_urls: Vec<String> =
                    urls.iter().map(|url| url.as_str().to_owned()).collect();
                let id = member_id(&peer_urls, &config.cluster.token, None);
                Member {
                    id,
                    name: name.clone(),
                    peer_urls,
                }
            })
            .collect();
        let ids: Vec<u64> = founders.iter().map(|member| member.id).collect();
        let own = founders.iter().find(|member| member.name == config.name);
        let own = own.ok_or_else(|| Invalid::NameNotInCluster(config.name.clone()))?;
        Ok(Self {
            cluster_id: cluster_id(&ids),
            member_id: own.id,
            founders,
        })
    }
}

fn file_of(config: &Config) -> PathBuf {
    config.data.directory.join("member").join(FILE)
}

fn read(path: &Path) -> io::Result<Option<Identity>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let stored: Stored = serde_json::from_str(&text).map_err(io::Error::other)?;
    let id = |hex: &str| u64::from_str_radix(hex, 16).map_err(io::Error::other);
    let founder = |founder: Founder| {
        io::Result::Ok(Member {
            id: id(&founder.id)?,
            name: founder.name,
            peer_urls: founder.peer_urls,
        })
    };
    Ok(Some(Identity {
        cluster_id: id(&stored.cluster_id)?,
        member_id: id(&stored.member_id)?,
        founders: stored
            .founders
            .into_iter()
            .map(founder)
            .collect::<Result<_, _>>()?,
    }))
}

fn write(path: &Path, identity: &Identity) -> io::Result<()> {
    let hex = |id: u64| format!("{id:x}");
    let founder = |member: &Member| Founder {
        id: hex(member.id),
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
    };
    let stored = Stored {
        cluster_id: hex(identity.cluster_id),
        member_id: hex(identity.member_id),
        founders: identity.founders.iter().map(founder).collect(),
    };
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(serde_json::to_string(&stored)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_member_is_and_with_whom_it_begins_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let founder = Member {
            id: u64::MAX,
            name: "m1".to_owned(),
            peer_urls: vec!["http://127.0.0.1:2380".to_owned()],
        };
        let identity = Identity {
            cluster_id: 7,
            member_id: u64::MAX,
            founders: vec![founder],
        };
        write(&path, &identity).expect("written");
        let kept = read(&path).expect("read").expect("there");
        assert_eq!((kept.cluster_id, kept.member_id), (7, u64::MAX));
        assert_eq!(kept.founders, identity.founders);
    }

    #[test]
    fn an_identity_without_founders_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        fs::write(&path, r#"{"cluster_id":"7","member_id":"8"}"#).expect("written");
        let kept = read(&path).expect("read").expect("there");
        assert_eq!((kept.cluster_id, kept.member_id), (7, 8));
        assert!(kept.founders.is_empty());
    }
}
