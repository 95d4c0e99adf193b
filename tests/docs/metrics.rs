//! What `/metrics` says is read by Prometheus' own parser for Python.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use phone_identity::metrics::{FAMILIES, MetricKind};

use crate::server::Server;
use crate::{root, tools};

#[test]
fn prometheus_reads_every_family() {
    let mut server = Server::start_with(&["--metrics-listen=127.0.0.1:0"]);
    let address = server.printed("metrics on ");
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: metrics\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");

    let mut parser = Command::new(tools().join("python3"))
        .arg(root().join("tests/foreign/metrics.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}\n{text}");
    let read = String::from_utf8(output.stdout).unwrap();
    let read: Vec<_> = read
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let expected: Vec<_> = FAMILIES
        .iter()
        // The parser takes the end off that says it is a counter.
        .map(|family| match family.kind {
            MetricKind::Counter => format!("{} counter", family.name.trim_end_matches("_total")),
            kind => format!("{} {}", family.name, kind.as_str()),
        })
        .collect();
    assert_eq!(read, expected);
}
