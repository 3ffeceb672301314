//! TLS on client and peer ports.

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::{all, get, put};
use metastore_conformance::{Session, Setup, check_with, expect};
use metastore_harness::{
    Clients, Identity, Offer, Port, Spoken, connect_tls, days_of, speak, who_dials,
};
use rustls::{ALL_VERSIONS, SupportedProtocolVersion};

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

/// The client port, spoken to with what is offered.
async fn speak_to(t: &Session, url: &str, offer: Speaking<'_>) -> Result<Option<Spoken>> {
    let cluster = t.cluster().await;
    let authority = cluster.authority().context("made for this cluster")?;
    let offer = Offer {
        versions: offer.versions,
        suite: offer.suite,
        ..Offer::new(authority, offer.identity)
    };
    Ok(speak(url, "/version", offer).await.ok())
}

/// What a client says in a handshake.
#[derive(Clone, Copy)]
struct Speaking<'a> {
    identity: Option<&'a Identity>,
    versions: &'a [&'static SupportedProtocolVersion],
    suite: Option<&'a str>,
}

impl<'a> Speaking<'a> {
    fn as_is(identity: &'a Identity) -> Self {
        Self {
            identity: Some(identity),
            versions: ALL_VERSIONS,
            suite: None,
        }
    }
}

#[test]
fn versions_of_tls_can_be_refused_from_both_sides() -> Result<()> {
    check_with(&client_tls(), async |t| {
        let good = issue(t, "good", &["client"]).await?;
        let url = t.url().to_owned();
        let spoken = async |versions: &[&'static SupportedProtocolVersion]| -> Result<String> {
            let offer = Speaking {
                versions,
                ..Speaking::as_is(&good)
            };
            let spoken = speak_to(t, &url, offer).await?;
            Ok(spoken.map_or("refused".to_owned(), |spoken| spoken.version))
        };
        let (old, new): ([_; 1], [_; 1]) = ([&rustls::version::TLS12], [&rustls::version::TLS13]);
        expect("of both", spoken(ALL_VERSIONS).await?.as_str(), "TLSv1_3")?;
        expect("of the old", spoken(&old).await?.as_str(), "TLSv1_2")?;
        restart_with(t, &["--tls-min-version=TLS1.3".into()]).await?;
        expect(
            "above the least",
            spoken(ALL_VERSIONS).await?.as_str(),
            "TLSv1_3",
        )?;
        expect("below the least", spoken(&old).await?.as_str(), "refused")?;
        let flags = ["--tls-min-version=TLS1.2", "--tls-max-version=TLS1.2"];
        restart_with(t, &flags.map(str::to_owned)).await?;
        expect(
            "below the most",
            spoken(ALL_VERSIONS).await?.as_str(),
            "TLSv1_2",
        )?;
        expect("above the most", spoken(&new).await?.as_str(), "refused")
    })
}

#[test]
fn cipher_suites_are_limited_to_those_named() -> Result<()> {
    check_with(&client_tls(), async |t| {
        let good = issue(t, "good", &["client"]).await?;
        let url = t.url().to_owned();
        let spoken = async |suite: &str| -> Result<String> {
            let offer = Speaking {
                versions: &[&rustls::version::TLS12],
                suite: Some(suite),
                ..Speaking::as_is(&good)
            };
            let spoken = speak_to(t, &url, offer).await?;
            Ok(spoken.map_or("refused".to_owned(), |spoken| spoken.suite))
        };
        // HTTP/2 demands the first; Go's server does not start without.
        let [first, second] = [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ];
        expect("one of all", spoken(second).await?.as_str(), second)?;
        restart_with(t, &[format!("--cipher-suites={first}")]).await?;
        expect("the one named", spoken(first).await?.as_str(), first)?;
        expect("one not named", spoken(second).await?.as_str(), "refused")?;
        restart_with(t, &[format!("--cipher-suites={first},{second}")]).await?;
        expect("one of two named", spoken(second).await?.as_str(), second)?;
        // A suite that the certificate's key does not fit: TLS 1.3, which has its own, is left.
        restart_with(
            t,
            &["--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()],
        )
        .await?;
        let old = Speaking {
            versions: &[&rustls::version::TLS12],
            ..Speaking::as_is(&good)
        };
        expect("TLS 1.2", speak_to(t, &url, old).await?.is_some(), false)?;
        expect(
            "TLS 1.3",
            speak_to(t, &url, Speaking::as_is(&good)).await?.is_some(),
            true,
        )
    })
}

#[test]
fn each_certificate_flag_counts() -> Result<()> {
    check_with(&client_tls(), async |t| {
        let good = issue(t, "good", &["client"]).await?;
        expect("none shown", served(t, None).await?, false)?;
        let flags = Flags {
            authority: "--trusted-ca-file",
            demand: "--client-cert-auth",
            certificate: "--cert-file",
            key: "--key-file",
        };
        demands_what_its_flags_say(t, flags, &good, async |shown| served(t, shown).await).await
    })
}

/// The flags of a port.
struct Flags {
    authority: &'static str,
    demand: &'static str,
    certificate: &'static str,
    key: &'static str,
}

/// What is demanded of who connects, and what is shown to them; `let_in` says whether who shows this is served.
async fn demands_what_its_flags_say(
    t: &Session,
    flags: Flags,
    good: &Identity,
    let_in: impl AsyncFn(Option<&Identity>) -> Result<bool>,
) -> Result<()> {
    let authority = t
        .cluster()
        .await
        .authority()
        .context("an authority")?
        .file();
    let trusted = |file: &str| format!("{}={file}", flags.authority);
    let demanded = |demanded: bool| format!("{}={demanded}", flags.demand);
    // Nobody is asked for a certificate.
    restart_with(t, &[trusted(""), demanded(false)]).await?;
    expect("none shown, none asked for", let_in(None).await?, true)?;
    // An authority alone asks for one.
    restart_with(t, &[trusted(&authority.display().to_string())]).await?;
    expect("none shown to an authority", let_in(None).await?, false)?;
    expect("one shown to an authority", let_in(Some(good)).await?, true)?;
    // The flag asks for one, and without an authority none will do.
    restart_with(t, &[trusted(""), demanded(true)]).await?;
    expect(
        "one shown without authority",
        let_in(Some(good)).await?,
        false,
    )?;
    // The pair that is named is the one that is shown.
    let other = issue(t, "elsewhere", &["elsewhere.example"]).await?;
    let pair = [
        format!("{}={}", flags.certificate, other.certificate_file.display()),
        format!("{}={}", flags.key, other.key_file.display()),
        demanded(false),
    ];
    restart_with(t, &pair).await?;
    expect("by a server of another name", let_in(None).await?, false)
}

#[test]
fn a_revoked_client_is_refused_and_the_list_is_read_again() -> Result<()> {
    check_with(&client_tls(), async |t| {
        let (good, bad) = (
            issue(t, "good", &["client"]).await?,
            issue(t, "bad", &["client"]).await?,
        );
        let list = t.cluster().await.folder().join("revoked.crl");
        revoke(t, &[], &list).await?;
        restart_with(t, &[format!("--client-crl-file={}", list.display())]).await?;
        expect("nobody is revoked", served(t, Some(&bad)).await?, true)?;
        revoke(t, &[&bad], &list).await?;
        expect("the one revoked", served(t, Some(&bad)).await?, false)?;
        expect("another", served(t, Some(&good)).await?, true)?;
        revoke(t, &[], &list).await?;
        expect("taken back", served(t, Some(&bad)).await?, true)
    })
}

async fn revoke(t: &Session, revoked: &[&Identity], list: &std::path::Path) -> Result<()> {
    let cluster = t.cluster().await;
    cluster
        .authority()
        .context("made for this cluster")?
        .revoke(revoked, list)
}

fn peer_tls() -> Setup {
    Setup {
        peer_tls: true,
        ..Setup::single()
    }
}

/// Whether a member with this certificate is let in at the peer port.
async fn let_in(t: &Session, identity: Option<&Identity>) -> Result<bool> {
    let url = t.cluster().await.members()[0].peer_url().to_owned();
    let offer = Speaking {
        identity,
        versions: ALL_VERSIONS,
        suite: None,
    };
    Ok(speak_to(t, &url, offer).await?.is_some())
}

const HERE: [&str; 2] = ["localhost", "127.0.0.1"];

#[test]
fn members_need_certificates_of_the_authority() -> Result<()> {
    check_with(&peer_tls(), async |t| {
        let good = issue(t, "good", &HERE).await?;
        let folder = t.cluster().await.folder().join("other");
        let stranger = metastore_harness::Authority::generate(&folder)?.issue("stranger", &HERE)?;
        expect("no certificate", let_in(t, None).await?, false)?;
        expect("a good one", let_in(t, Some(&good)).await?, true)?;
        expect("a stranger's", let_in(t, Some(&stranger)).await?, false)?;
        let flags = Flags {
            authority: "--peer-trusted-ca-file",
            demand: "--peer-client-cert-auth",
            certificate: "--peer-cert-file",
            key: "--peer-key-file",
        };
        demands_what_its_flags_say(t, flags, &good, async |shown| let_in(t, shown).await).await
    })
}

#[test]
fn a_member_must_have_one_of_the_common_names_allowed() -> Result<()> {
    check_with(&peer_tls(), async |t| {
        let (good, bad) = (
            issue(t, "good", &HERE).await?,
            issue(t, "bad", &HERE).await?,
        );
        restart_with(t, &["--peer-cert-allowed-cn=other,good".into()]).await?;
        expect("the name allowed", let_in(t, Some(&good)).await?, true)?;
        expect("another name", let_in(t, Some(&bad)).await?, false)
    })
}

#[test]
fn a_member_must_have_one_of_the_host_names_allowed() -> Result<()> {
    check_with(&peer_tls(), async |t| {
        let good = issue(t, "good", &["127.0.0.1", "good.example"]).await?;
        let bad = issue(t, "bad", &["127.0.0.1", "bad.example"]).await?;
        // Their names do not lead to the address they come from; the address in them does.
        restart_with(
            t,
            &["--peer-cert-allowed-hostname=other.example,good.example".into()],
        )
        .await?;
        expect("the host allowed", let_in(t, Some(&good)).await?, true)?;
        expect("another host", let_in(t, Some(&bad)).await?, false)
    })
}

#[test]
fn a_revoked_member_is_refused_and_the_list_is_read_again() -> Result<()> {
    check_with(&peer_tls(), async |t| {
        let (good, bad) = (
            issue(t, "good", &HERE).await?,
            issue(t, "bad", &HERE).await?,
        );
        let list = t.cluster().await.folder().join("revoked.crl");
        revoke(t, &[], &list).await?;
        restart_with(t, &[format!("--peer-crl-file={}", list.display())]).await?;
        expect("nobody is revoked", let_in(t, Some(&bad)).await?, true)?;
        revoke(t, &[&bad], &list).await?;
        expect("the one revoked", let_in(t, Some(&bad)).await?, false)?;
        expect("another", let_in(t, Some(&good)).await?, true)
    })
}

#[test]
fn names_of_a_member_need_not_fit_its_address_where_that_is_skipped() -> Result<()> {
    check_with(&peer_tls(), async |t| {
        let elsewhere = issue(t, "elsewhere", &["10.9.8.7"]).await?;
        expect("checked", let_in(t, Some(&elsewhere)).await?, false)?;
        restart_with(t, &["--peer-skip-client-san-verification".into()]).await?;
        expect("skipped", let_in(t, Some(&elsewhere)).await?, true)
    })
}

#[test]
fn members_may_show_another_certificate_than_that_of_their_port() -> Result<()> {
    check_with(&peer_tls(), async |t| {
        let port = Port::take()?;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.number())).await?;
        let shown = issue(t, "shown", &HERE).await?;
        let server = issue(t, "server", &HERE).await?;
        let mut cluster = t.cluster().await;
        let folder = cluster.folder().to_owned();
        let member = cluster.member(0);
        member.stop().await?;
        let initial = format!(
            "m1={},m2=https://127.0.0.1:{}",
            member.peer_url(),
            port.number()
        );
        member
            .flags_mut()
            .push(format!("--initial-cluster={initial}").into());
        for (number, wanted) in ["m1", "shown"].into_iter().enumerate() {
            let data = folder.join(format!("data{number}"));
            cluster
                .member(0)
                .flags_mut()
                .push(format!("--data-dir={}", data.display()).into());
            if wanted == "shown" {
                cluster.member(0).flags_mut().extend([
                    format!(
                        "--peer-client-cert-file={}",
                        shown.certificate_file.display()
                    )
                    .into(),
                    format!("--peer-client-key-file={}", shown.key_file.display()).into(),
                ]);
            }
            cluster.member(0).launch()?;
            let authority = cluster.authority().context("an authority")?;
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
            // Connections of the member before may still be in the queue, without anybody at the other end.
            let seen = loop {
                ensure!(
                    std::time::Instant::now() < deadline,
                    "nobody dials as {wanted}"
                );
                let dialled = who_dials(&listener, authority, &server);
                let limit = std::time::Duration::from_secs(20);
                match tokio::time::timeout(limit, dialled)
                    .await
                    .context("nobody dials")?
                {
                    Ok(name) => break name,
                    Err(_) => continue,
                }
            };
            cluster.member(0).kill()?;
            expect("name shown", seen.as_str(), wanted)?;
        }
        Ok(())
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
        member
            .flags_mut()
            .push("--self-signed-cert-validity=3".into());
        member.start().await?;
        let certificate =
            std::fs::read_to_string(member.data_dir().join("fixtures/client/cert.pem"))?;
        expect("years", days_of(&certificate)? / 365, 3)?;
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
