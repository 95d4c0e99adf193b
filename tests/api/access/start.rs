//! Configurations that the service refuses to start with, since they would let every caller in, or none.

use super::{REQUIRE_KEY, text};
use crate::support::binary::ServerProcess;
use crate::support::certificates::{Authority, SERVER, ServerFiles};
use crate::support::place::Place;

#[tokio::test]
async fn it_does_not_start_where_every_caller_would_have_access() {
    let place = Place::new().await;
    let authority = Authority::new();
    let files = ServerFiles::write(place.path(), &authority.sign(&[SERVER]), &authority.pem);
    let tls = files.flags();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        for tls in [Vec::new(), tls.clone()] {
            let listen = format!("--listen={listen}");
            let tls: Vec<_> = tls.iter().map(String::as_str).collect();
            let output = place
                .run(&[vec!["serve", listen.as_str()], tls].concat(), "")
                .await;
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{listen}: {stderr}");
            assert!(
                stderr.contains("--insecure") && stderr.contains("loopback"),
                "{stderr}"
            );
        }
    }
}

#[tokio::test]
async fn it_starts_where_callers_authenticate_and_warns_where_they_do_not() {
    let place = Place::new().await;
    let authority = Authority::new();
    let files = ServerFiles::write(place.path(), &authority.sign(&[SERVER]), &authority.pem);
    let mutual = files.mutual_flags();
    let mut mutual: Vec<_> = mutual.iter().map(String::as_str).collect();
    mutual.push("--clients=orders.internal=validate");
    let listen = "--listen=0.0.0.0:0";
    for (flags, warnings) in [
        (vec![listen, "--insecure"], vec!["INSECURE (--insecure)"]),
        (vec![listen, "--insecure=true"], vec!["INSECURE (--insecure)"]),
        (vec![listen, REQUIRE_KEY], vec!["are received without TLS"]),
        ([vec![listen], mutual].concat(), vec![]),
        (vec!["--listen=127.0.0.2:0"], vec![]),
        (vec!["--listen=[::ffff:127.0.0.1]:0", "--insecure=false"], vec![]),
    ] {
        let server = ServerProcess::start_listening(&place, &flags).await;
        server.terminate();
        let (code, log) = server.ended().await;
        assert_eq!(code, Some(0), "{flags:?}: {log}");
        // Databases tell of other things.
        let of_access = "\"target\":\"phone_identity::config::access\"";
        let told: Vec<_> = log.lines().filter(|line| line.contains(of_access)).collect();
        assert_eq!(told.len(), warnings.len(), "{flags:?}: {told:?}");
        for (told, warning) in told.iter().zip(warnings) {
            assert!(
                told.contains("\"WARN\"") && told.contains(warning),
                "{flags:?}: {told}"
            );
        }
    }
}

#[tokio::test]
async fn contradictory_settings_are_refused() {
    let place = Place::new().await;
    let authority = Authority::new();
    let files = ServerFiles::write(place.path(), &authority.sign(&[SERVER]), &authority.pem);
    let mutual = files.mutual_flags();
    let [certificate, key, client_ca] = mutual.as_slice() else {
        panic!("{mutual:?}")
    };
    let clients = "--clients=orders.internal=validate";
    // The certificate of another key.
    let other = place.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let other = ServerFiles::write(&other, &authority.sign(&[SERVER]), "no certificate");
    let other = other.mutual_flags();
    for (flags, said) in [
        (vec![certificate.as_str()], "--tls-key"),
        (vec![key], "--tls-certificate"),
        (vec![client_ca, clients], "--client-ca needs --tls-certificate"),
        (vec![certificate, key, clients], "--clients needs --client-ca"),
        (
            vec![certificate, key, client_ca],
            "--client-ca needs --clients or --require-service-key",
        ),
        (
            vec![certificate, key, client_ca, "--clients=*.internal=all"],
            "wildcards",
        ),
        (
            vec![certificate, key, client_ca, "--clients=orders.internal=list"],
            "there is no right",
        ),
        (vec![certificate, &other[1]], "cannot be used"),
        (vec![certificate, key, &other[2], clients], "nothing of that kind"),
        (vec![certificate, "--tls-key=nowhere"], "nowhere cannot be read"),
        (
            vec![certificate, certificate.replace("certificate=", "key=").leak()],
            "nothing of that kind",
        ),
    ] {
        let output = place
            .run(
                &[vec!["serve", "--listen=127.0.0.1:0"], flags.clone()].concat(),
                "",
            )
            .await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(stderr.contains(said), "{flags:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
