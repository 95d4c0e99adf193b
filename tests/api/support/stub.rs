//! A stub SMS provider: an HTTP server that stores the bytes of every request and returns given bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// The response to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Answers with a status and a body.
    Status(u16, &'static str),
    /// Answers with a status, and a body of so many bytes.
    Huge(u16, usize),
    /// Answers with bytes that are no HTTP.
    Garbage,
    /// Closes the connection.
    Nothing,
    /// Does not answer.
    Silence,
    /// Answers 200, so much later.
    Late(Duration),
    /// Answers with a status, announces a body and never sends it.
    Stalled(u16),
}

/// The server. It ends when it is dropped.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
    _serving: AbortOnDropHandle<()>,
}

impl Stub {
    /// Gives these answers, one after another, and the last of them for ever.
    pub(crate) async fn start(answers: &'static [Answer]) -> Self {
        Self::start_with(answers, Semaphore::MAX_PERMITS, None).await
    }

    /// The same with TLS.
    pub(crate) async fn start_tls(answers: &'static [Answer], tls: TlsAcceptor) -> Self {
        Self::start_with(answers, Semaphore::MAX_PERMITS, Some(tls)).await
    }

    /// Takes every message, one for each [`Self::let_through`].
    pub(crate) async fn closed() -> Self {
        Self::start_with(&[Answer::Status(204, "")], 0, None).await
    }

    /// Answers so many more requests.
    pub(crate) fn let_through(&self, count: usize) {
        self.gate.add_permits(count);
    }

    async fn start_with(answers: &'static [Answer], permits: usize, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let gate = Arc::new(Semaphore::new(permits));
        let (kept, passed) = (requests.clone(), gate.clone());
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (kept, passed) = (kept.clone(), passed.clone());
                match tls.clone() {
                    None => drop(tokio::spawn(serve(socket, kept, passed, answers))),
                    Some(tls) => drop(tokio::spawn(async move {
                        if let Ok(socket) = tls.accept(socket).await {
                            serve(socket, kept, passed, answers).await;
                        }
                    })),
                }
            }
        });
        Self {
            address,
            requests,
            gate,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, whole, with `ADDRESS` where they name this server.
    pub(crate) fn requests(&self) -> Vec<String> {
        let address = self.address.to_string();
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .map(|request| request.replace(&address, "ADDRESS"))
            .collect()
    }
}

async fn serve(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    requests: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
    answers: &[Answer],
) {
    while let Some(request) = read(&mut socket).await {
        let answer = {
            let mut requests = requests.lock().unwrap();
            requests.push(request);
            answers[requests.len().min(answers.len()) - 1]
        };
        gate.acquire().await.unwrap().forget();
        let bytes = match answer {
            Answer::Status(status, body) => format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
            Answer::Huge(status, length) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
                [head.into_bytes(), vec![b'{'; length]].concat()
            }
            Answer::Garbage => b"220 smtp.example.com ready\r\n".to_vec(),
            Answer::Nothing => return,
            Answer::Late(delay) => {
                sleep(delay).await;
                b"HTTP/1.1 200 X\r\ncontent-length: 0\r\n\r\n".to_vec()
            }
            Answer::Stalled(status) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 100\r\n\r\n");
                let _ = socket.write_all(head.as_bytes()).await;
                return sleep(Duration::from_secs(60)).await;
            }
            Answer::Silence => return sleep(Duration::from_secs(60)).await,
        };
        // The client need not read all of it.
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The next request, head and body. `None`: there is no more.
async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}
