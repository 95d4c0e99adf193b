//! The servers that are measured, as processes.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;
use phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cgroup::Quota;
use crate::{Bench, bare, machine};

/// Timeout of the start and of the end of a server.
const PATIENCE: Duration = Duration::from_secs(20);

/// The settings of a server.
#[derive(Clone)]
pub(crate) struct Setup<'a> {
    pub(crate) database_url: String,
    pub(crate) cores: &'a [usize],
    pub(crate) quota: Option<&'a Quota>,
    /// The file of the log. Without one, the server still writes the log, and the kernel discards it.
    pub(crate) log: Option<&'a Path>,
    pub(crate) flags: &'a [&'a str],
}

impl<'a> Setup<'a> {
    /// On a file of SQLite.
    pub(crate) fn new(database: &Path, cores: &'a [usize]) -> Self {
        Self::at(format!("sqlite://{}", database.display()), cores)
    }

    /// On any database.
    pub(crate) fn at(database_url: String, cores: &'a [usize]) -> Self {
        Self {
            database_url,
            cores,
            quota: None,
            log: None,
            flags: &[],
        }
    }
}

/// A serving process. It ends when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts the service, and waits until it serves.
    pub(crate) fn start(bench: &Bench, setup: &Setup<'_>) -> Self {
        let mut command = service(bench, setup, "127.0.0.1:0");
        let server = Self::spawn(&mut command, setup.cores);
        server.wait_until_serving(bench);
        server
    }

    /// Starts the service and gives the time from there to the first answer of health that it serves.
    pub(crate) fn start_and_time(bench: &Bench, setup: &Setup<'_>) -> (Self, Duration) {
        // This function chooses the port, so that it can connect before the service prints anything.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut command = service(bench, setup, &address.to_string());
        let begun = Instant::now();
        let child = machine::on(setup.cores, || command.spawn()).expect("the service does not start");
        let server = Self { address, child };
        server.wait_until_serving(bench);
        (server, begun.elapsed())
    }

    /// Starts the bare server.
    pub(crate) fn start_bare(cores: &[usize]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(bare::MODE).env_clear().stdout(Stdio::piped());
        Self::spawn(&mut command, cores)
    }

    fn spawn(command: &mut Command, cores: &[usize]) -> Self {
        let mut child = machine::on(cores, || command.spawn()).expect("the server does not start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on ").map(str::parse);
        let Some(Ok(address)) = address else {
            let _ = child.kill();
            panic!(
                "the server did not say where it listens, but {line:?}; its errors are above, or in its log"
            );
        };
        Self { address, child }
    }

    fn wait_until_serving(&self, bench: &Bench) {
        let deadline = Instant::now() + PATIENCE;
        bench.runtime.block_on(async {
            while !self.is_serving().await {
                assert!(Instant::now() < deadline, "the server does not serve");
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        });
    }

    async fn is_serving(&self) -> bool {
        let Ok(channel) = self.endpoint().connect().await else {
            return false;
        };
        let answer = HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await;
        answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The generated client, for calls that are not measured.
    pub(crate) async fn client(&self) -> PhoneIdentityClient<Channel> {
        PhoneIdentityClient::new(self.endpoint().connect().await.unwrap())
    }

    /// The same for codes.
    pub(crate) async fn codes(&self) -> PhoneVerificationClient<Channel> {
        PhoneVerificationClient::new(self.endpoint().connect().await.unwrap())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that serves. Nothing of the environment reaches it: what is measured are the defaults.
fn service(bench: &Bench, setup: &Setup<'_>, listen: &str) -> Command {
    let mut command = match setup.quota {
        // In the control group before it is executed, so that it sees its quota at the start.
        Some(quota) => {
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
                .arg(quota.processes())
                .arg(&bench.binary);
            command
        }
        None => Command::new(&bench.binary),
    };
    command
        .arg("serve")
        .arg(format!("--listen={listen}"))
        .arg(format!("--database-url={}", setup.database_url))
        .args(setup.flags)
        .env_clear()
        .current_dir(&bench.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(match setup.log {
            Some(path) => Stdio::from(File::create(path).unwrap()),
            None => Stdio::null(),
        });
    command
}

/// Runs a command of the binary to its end, and gives what it printed.
pub(crate) fn run(bench: &Bench, arguments: &[&str]) -> String {
    let output = Command::new(&bench.binary)
        .args(arguments)
        .env_clear()
        .current_dir(&bench.folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
