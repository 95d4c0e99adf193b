//! A replica of the service: the real binary, which can be killed and started again.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use crate::binary::ServerProcess;
use crate::place::Place;
use crate::{Client, connect};

/// Connections that callers share: one connection has at most 200 calls in flight.
const CONNECTIONS: usize = 16;

/// A replica. Its process may be another one from time to time.
pub(crate) struct Replica {
    flags: Vec<String>,
    door: Door,
    process: Option<ServerProcess>,
}

/// The address of a replica for its callers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Door(Arc<RwLock<Arc<Life>>>);

impl Door {
    /// The process that there is, or was last.
    pub(crate) fn life(&self) -> Arc<Life> {
        self.0.read().unwrap().clone()
    }
}

/// One process of a replica, as its callers know it.
pub(crate) struct Life {
    clients: Vec<Client>,
    next_client: AtomicUsize,
    is_killed: AtomicBool,
}

impl Life {
    async fn of(process: &ServerProcess) -> Arc<Self> {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(connect(process.address).await);
        }
        Arc::new(Self {
            clients,
            next_client: AtomicUsize::new(0),
            is_killed: AtomicBool::new(false),
        })
    }

    pub(crate) fn client(&self) -> Client {
        let number = self.next_client.fetch_add(1, Ordering::Relaxed);
        self.clients[number % CONNECTIONS].clone()
    }

    /// Returns whether a call may have failed because no process was listening.
    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::SeqCst)
    }
}

/// Resources of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// In KiB.
    pub(crate) memory: u64,
    pub(crate) files: usize,
}

impl Replica {
    pub(crate) async fn start(place: &Place, flags: &[&str]) -> Self {
        let process = ServerProcess::start(place, flags).await;
        Self {
            flags: flags.iter().map(ToString::to_string).collect(),
            door: Door(Arc::new(RwLock::new(Life::of(&process).await))),
            process: Some(process),
        }
    }

    pub(crate) fn door(&self) -> Door {
        self.door.clone()
    }

    /// The process that there is, or was last.
    pub(crate) fn life(&self) -> Arc<Life> {
        self.door.life()
    }

    /// `kill -9`; waits until the process is gone.
    pub(crate) async fn kill(&mut self) {
        let process = self.process.take().unwrap();
        self.life().is_killed.store(true, Ordering::SeqCst);
        process.signal("KILL");
        let (code, log) = process.ended().await;
        assert_eq!(code, None, "it ended by itself: {log}");
    }

    /// Ends the process by SIGTERM, which waits for what is under way. Nothing was logged but what may be.
    pub(crate) async fn end(&mut self) {
        let process = self.process.take().unwrap();
        process.terminate();
        let (code, log) = process.ended().await;
        assert_eq!(code, Some(0), "it did not serve to its end: {log}");
        assert_eq!(log, "", "it logged faults");
    }

    /// Starts another process.
    pub(crate) async fn start_again(&mut self, place: &Place) {
        let flags: Vec<_> = self.flags.iter().map(String::as_str).collect();
        let process = ServerProcess::start(place, &flags).await;
        let life = Life::of(&process).await;
        *self.door.0.write().unwrap() = life;
        self.process = Some(process);
    }

    /// Sends a signal that does not end it.
    pub(crate) fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }

    pub(crate) fn taken(&self) -> Taken {
        let folder = format!("/proc/{}", self.process.as_ref().unwrap().pid());
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.unwrap().trim().trim_end_matches(" kB").trim();
        Taken {
            memory: memory.parse().unwrap(),
            files: fs::read_dir(format!("{folder}/fd")).unwrap().count(),
        }
    }
}
