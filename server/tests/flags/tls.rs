//! TLS where MetaStore does more than etcd: authorities that change without a restart, common names of clients as a
//! flag; and members that make their own certificates.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_harness::{Authority, Cluster, Engine, Identity, Offer, Spec, Target, speak};

use crate::{clients, get, put, run};

const HERE: [&str; 2] = ["localhost", "127.0.0.1"];

fn secure(size: usize) -> Spec {
    Spec::new(Target::MetaStore(Engine::Memory), size)
        .with_client_tls()
        .with_peer_tls()
}

async fn served(url: &str, trusted: &Authority, shown: &Identity) -> bool {
    speak(url, "/version", Offer::new(trusted, Some(shown)))
        .await
        .is_ok()
}

#[test]
fn a_client_must_have_one_of_the_common_names_allowed() -> Result<()> {
    run(async {
        let spec = Spec::new(Target::MetaStore(Engine::Memory), 1)
            .with_client_tls()
            .with_flags(["--client-cert-allowed-cn=other,good"]);
        let cluster = Cluster::start(&spec).await?;
        let authority = cluster.authority().context("an authority")?;
        let url = cluster.members()[0].client_url();
        let (good, bad) = (
            authority.issue("good", &HERE)?,
            authority.issue("bad", &HERE)?,
        );
        ensure!(
            served(url, authority, &good).await,
            "the name allowed is refused"
        );
        ensure!(
            !served(url, authority, &bad).await,
            "another name is served"
        );
        Ok(())
    })
}

#[test]
fn authorities_are_read_again_on_both_ports() -> Result<()> {
    run(async {
        let cluster = Cluster::start(&secure(1)).await?;
        let old = cluster.authority().context("an authority")?;
        let new = Authority::generate(&cluster.folder().join("new"))?;
        let (mine, other) = (old.issue("mine", &HERE)?, new.issue("other", &HERE)?);
        let member = &cluster.members()[0];
        for url in [member.client_url(), member.peer_url()] {
            ensure!(served(url, old, &mine).await, "{url}: before");
            ensure!(!served(url, old, &other).await, "{url}: a stranger's");
        }
        new.write_with(&[old], &old.file())?;
        for url in [member.client_url(), member.peer_url()] {
            ensure!(served(url, old, &mine).await, "{url}: the old one of two");
            ensure!(served(url, old, &other).await, "{url}: the new one of two");
        }
        new.write_with(&[], &old.file())?;
        for url in [member.client_url(), member.peer_url()] {
            ensure!(!served(url, old, &mine).await, "{url}: the one taken away");
            ensure!(
                served(url, old, &other).await,
                "{url}: the one that is left"
            );
        }
        // A file that is not usable changes nothing.
        fs::write(old.file(), "half a certificate")?;
        for url in [member.client_url(), member.peer_url()] {
            ensure!(served(url, old, &other).await, "{url}: with a broken file");
        }
        Ok(())
    })
}

/// Puts through a member and reads it back at another, as soon as the cluster can.
async fn works(cluster: &Cluster, key: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut first = clients(cluster).await?.kv;
        match first.put(put(key, b"1".to_vec())).await {
            Ok(_) => break,
            Err(status) => ensure!(
                Instant::now() < deadline,
                "{status}\n{}",
                cluster.log_tails(10)
            ),
        }
    }
    let mut third = cluster.clients(2).await?.kv;
    let page = third.range(get(key)).await?.into_inner();
    ensure!(page.count == 1, "{page:?}");
    Ok(())
}

/// Each member in turn gets to know the others anew, over connections that are made now.
async fn restart_each(cluster: &mut Cluster) -> Result<()> {
    for index in 0..cluster.members().len() {
        cluster.member(index).stop().await?;
        cluster.member(index).start().await?;
    }
    Ok(())
}

#[test]
fn members_go_over_to_a_new_authority_without_a_restart_of_those_that_know_it() -> Result<()> {
    run(async {
        let spec = Spec::new(Target::MetaStore(Engine::Memory), 3).with_peer_tls();
        let mut cluster = Cluster::start(&spec).await?;
        works(&cluster, "a").await?;
        let folder = cluster.folder().join("new");
        let new = Authority::generate(&folder)?;
        let old = cluster.authority().context("an authority")?;
        let (file, tls) = (old.file(), old.file());
        new.write_with(&[old], &file)?;
        // Certificates of the new authority take the place of the old ones.
        for index in 1..=3 {
            let name = format!("m{index}");
            let issued = new.issue(&name, &HERE)?;
            fs::copy(
                &issued.certificate_file,
                tls.with_file_name(format!("{name}.crt")),
            )?;
            fs::copy(&issued.key_file, tls.with_file_name(format!("{name}.key")))?;
        }
        // One member restarts: the two others take it in, and it them, by files they have read again.
        cluster.member(0).stop().await?;
        cluster.member(0).start().await?;
        works(&cluster, "b").await?;
        new.write_with(&[], &file)?;
        restart_each(&mut cluster).await?;
        works(&cluster, "c").await
    })
}

#[test]
fn three_members_make_their_own_certificates() -> Result<()> {
    run(async {
        let mut spec = Spec::new(Target::MetaStore(Engine::Memory), 3);
        spec.peer_auto_tls = true;
        let mut cluster = Cluster::start(&spec).await?;
        let flags = cluster.member(0).flags_mut();
        ensure!(
            flags.iter().any(|flag| flag == "--peer-auto-tls"),
            "{flags:?}"
        );
        works(&cluster, "a").await?;
        for member in cluster.members() {
            let made = fs::read_dir(member.data_dir().join("fixtures/peer"))?.count();
            ensure!(made == 2, "{made} files");
            ensure!(member.peer_url().starts_with("https://"));
        }
        // The port speaks TLS and nothing else.
        let url = cluster.members()[0].peer_url().to_owned();
        let plain = metastore_harness::get(&url.replace("https", "http"), "/version").await;
        ensure!(plain.is_err(), "served without TLS: {plain:?}");
        let anybody = Offer {
            authority: None,
            identity: None,
            versions: rustls::ALL_VERSIONS,
            suite: None,
        };
        ensure!(
            speak(&url, "/version", anybody).await.is_ok(),
            "not served with TLS"
        );
        restart_each(&mut cluster).await?;
        works(&cluster, "b").await
    })
}
