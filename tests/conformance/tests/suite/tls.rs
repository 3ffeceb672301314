//! TLS on client and peer ports.

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::{all, get, put};
use metastore_conformance::{Session, Setup, check_with, expect};
use metastore_harness::{Clients, Identity, connect_tls};

fn client_tls() -> Setup {
    Setup {
        client_tls: true,
        ..Setup::single()
    }
}

/// Whether a client with this certificate is served.
async fn served(t: &Session, identity: Option<&Identity>) -> Result<bool> {
    let cluster = t.cluster().await;
    let authority = cluster.authority().context("made for this cluster")?;
    Ok(
        match connect_tls(cluster.members()[0].client_url(), authority, identity).await {
            Err(_) => false,
            Ok(channel) => Clients::new(channel).kv.range(get("a")).await.is_ok(),
        },
    )
}

async fn issue(t: &Session, name: &str, hosts: &[&str]) -> Result<Identity> {
    t.cluster()
        .await
        .authority()
        .context("made for this cluster")?
        .issue(name, hosts)
}

async fn restart_with(t: &Session, flags: &[String]) -> Result<()> {
    let mut cluster = t.cluster().await;
    let member = cluster.member(0);
    member.stop().await?;
    member.flags_mut().extend(flags.iter().map(Into::into));
    member.start().await
}

#[test]
fn only_certificates_of_the_authority_are_served() -> Result<()> {
    check_with(&client_tls(), async |t| {
        expect("no certificate", served(t, None).await?, false)?;
        expect(
            "a good one",
            served(t, Some(&issue(t, "good", &["client"]).await?)).await?,
            true,
        )?;
        let folder = t.cluster().await.folder().join("other");
        let stranger =
            metastore_harness::Authority::generate(&folder)?.issue("stranger", &["client"])?;
        expect("a stranger's", served(t, Some(&stranger)).await?, false)
    })
}

#[test]
fn client_certificates_are_limited_to_a_host_name() -> Result<()> {
    check_with(&client_tls(), async |t| {
        restart_with(
            t,
            &["--client-cert-allowed-hostname=allowed.example".into()],
        )
        .await?;
        let good = issue(t, "good", &["allowed.example"]).await?;
        let bad = issue(t, "bad", &["other.example"]).await?;
        expect("the host allowed", served(t, Some(&good)).await?, true)?;
        expect("another host", served(t, Some(&bad)).await?, false)
    })
}

#[test]
fn old_versions_of_tls_can_be_refused() -> Result<()> {
    check_with(&client_tls(), async |t| {
        restart_with(t, &["--tls-min-version=TLS1.3".into()]).await?;
        let good = issue(t, "good", &["client"]).await?;
        expect("a client of TLS 1.3", served(t, Some(&good)).await?, true)?;
        restart_with(
            t,
            &[
                "--tls-min-version=TLS1.2".into(),
                "--tls-max-version=TLS1.2".into(),
            ],
        )
        .await?;
        expect("a client of TLS 1.2", served(t, Some(&good)).await?, true)
    })
}

#[test]
fn a_new_certificate_is_used_without_a_restart() -> Result<()> {
    check_with(&client_tls(), async |t| {
        let good = issue(t, "good", &["client"]).await?;
        expect("before", served(t, Some(&good)).await?, true)?;
        // The member's own files, for a host that the client does not ask for: it must refuse to talk.
        let other = issue(t, "m1", &["elsewhere.example"]).await?;
        expect(
            "with a certificate of another host",
            served(t, Some(&good)).await?,
            false,
        )?;
        ensure!(
            other.certificate_file.ends_with("m1.crt"),
            "the file was replaced"
        );
        issue(t, "m1", &["localhost", "127.0.0.1"]).await?;
        expect("after", served(t, Some(&good)).await?, true)
    })
}

#[test]
fn members_speak_tls_to_each_other() -> Result<()> {
    let setup = Setup {
        peer_tls: true,
        client_tls: true,
        ..Setup::three()
    };
    check_with(&setup, async |t| {
        for number in 0..20 {
            t.put(put(format!("k{number:02}"), "v")).await?;
        }
        for index in 0..3 {
            let page = t.at(index).await?.unrecorded().range(all()).await?;
            expect("count", page.count, 20)?;
        }
        Ok(())
    })
}

#[test]
fn a_member_makes_its_own_certificate() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut cluster = t.cluster().await;
        let member = cluster.member(0);
        member.stop().await?;
        let url = member.client_url().replace("http://", "https://");
        member
            .flags_mut()
            .push(format!("--listen-client-urls={url}").into());
        member
            .flags_mut()
            .push(format!("--advertise-client-urls={url}").into());
        member.flags_mut().push("--auto-tls".into());
        member.start().await?;
        let made = std::fs::read_dir(member.data_dir().join("fixtures/client"))?.count();
        expect("files made", made, 2)?;
        let plain = metastore_harness::connect(&url.replace("https", "http")).await;
        let refused = match plain {
            Err(_) => true,
            Ok(channel) => Clients::new(channel).kv.range(get("a")).await.is_err(),
        };
        expect("a client without TLS is refused", refused, true)
    })
}
