//! Calls of any RPC, with encoded requests and responses.

use http::uri::PathAndQuery;
use prost::bytes::{Buf as _, BufMut as _};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Calls an RPC with an encoded request, and returns the first response, encoded. `rpc` is the path without its leading
/// slash.
pub(crate) async fn call(
    channel: &Channel,
    rpc: &str,
    message: Vec<u8>,
    bearer: Option<&str>,
    key: Option<&str>,
) -> Result<Vec<u8>, Status> {
    let mut request = Request::new(tokio_stream::once(message));
    let metadata = request.metadata_mut();
    if let Some(token) = bearer {
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    if let Some(key) = key {
        metadata.insert("x-service-key", key.parse().unwrap());
    }
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::try_from(format!("/{rpc}")).unwrap();
    let mut responses = client.streaming(request, path, Bytes).await?.into_inner();
    Ok(responses.message().await?.expect("no response"))
}

/// A codec that passes bytes on.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
