//! A second opinion: the same requests sent by h2load of nghttp2.

use std::fs;
use std::process::Command;

use prost::Message;

use crate::driver::Target;
use crate::{Bench, machine};

/// Sends one request over and over, and gives the answers a second. `None`: there is no h2load.
pub(crate) fn per_second(
    bench: &Bench,
    target: Target,
    path: &str,
    message: &impl Message,
) -> Option<Result<f64, String>> {
    let message = message.encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&message);
    let file = bench.folder.join("h2load.body");
    fs::write(&file, body).unwrap();
    let output = machine::on(&[bench.cores.driver], || {
        Command::new("h2load")
            .args(["--clients=8", "--max-concurrent-streams=8", "--threads=1"])
            .arg(format!("--duration={}", bench.seconds.as_secs().max(1)))
            .arg("--warm-up-time=1")
            .args(["--header=content-type: application/grpc", "--header=te: trailers"])
            .arg(format!("--data={}", file.display()))
            .arg(format!("http://{}{path}", target.address))
            .output()
    });
    let output = output.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let find = |start: &str, end: &str| {
        let (_, rest) = text.split_once(start)?;
        rest.split_once(end)?.0.rsplit(' ').next()?.parse::<f64>().ok()
    };
    Some(
        match (find("finished in", " req/s"), find("succeeded, ", " failed")) {
            (Some(rate), Some(0.0)) => Ok(rate),
            _ => Err(format!(
                "h2load: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )),
        },
    )
}
