//! The body of a git request: as it comes, or unpacked when the client has packed it. It is never
//! whole in memory, and what it unpacks to has a limit, so that nobody gains by sending a bomb.

use std::io::{self, Write};

use axum::body::{Body, BodyDataStream};
use bastide_hub::Problem;
use bastide_hub::push::Sent;
use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, header};

/// So much is unpacked at a time. Deflate makes at most 1032 bytes of one.
const STEP: usize = 256;

/// The parts of a request's body, unpacked, together at most `limit` bytes.
///
/// A body that is too long, ends early or is no gzip fails at that place: `io::ErrorKind` says which
/// of these it was (`FileTooLarge`, `UnexpectedEof`, `InvalidData`).
pub fn decoded(
    headers: &HeaderMap,
    body: Body,
    limit: u64,
) -> Result<impl Stream<Item = io::Result<Sent>> + Send + 'static, Problem> {
    let packed = match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => None,
        Some(b"gzip" | b"x-gzip") => Some(GzDecoder::new(Vec::new())),
        Some(_) => {
            return Err(Problem::Invalid("a body can be packed with gzip, and in no other way".into()));
        }
    };
    let decoder =
        Decoder { body: body.into_data_stream(), packed, input: Bytes::new(), took: 0, left: limit };
    Ok(stream::try_unfold(decoder, |mut decoder| async move {
        Ok(decoder.next().await?.map(|part| (part, decoder)))
    }))
}

struct Decoder {
    body: BodyDataStream,
    packed: Option<GzDecoder<Vec<u8>>>,
    /// What has come and is not unpacked yet.
    input: Bytes,
    /// Bytes of the request behind the next part.
    took: u64,
    left: u64,
}

impl Decoder {
    async fn next(&mut self) -> io::Result<Option<Sent>> {
        loop {
            let part = match self.more().await? {
                Some(input) => self.unpack(input)?,
                None => return self.end(),
            };
            if !part.is_empty() {
                return self.count(part).map(Some);
            }
        }
    }

    /// The next bytes of the request.
    async fn more(&mut self) -> io::Result<Option<Bytes>> {
        while self.input.is_empty() {
            match self.body.next().await {
                None => return Ok(None),
                Some(part) => {
                    self.input = part.map_err(|error| io::Error::new(io::ErrorKind::UnexpectedEof, error))?;
                }
            }
        }
        let step = if self.packed.is_some() { STEP.min(self.input.len()) } else { self.input.len() };
        self.took += step as u64;
        Ok(Some(self.input.split_to(step)))
    }

    fn unpack(&mut self, input: Bytes) -> io::Result<Bytes> {
        let Some(decoder) = &mut self.packed else { return Ok(input) };
        decoder.write_all(&input).map_err(damaged)?;
        decoder.flush().map_err(damaged)?;
        Ok(std::mem::take(decoder.get_mut()).into())
    }

    /// The end of the request has to be that of what is packed, too.
    fn end(&mut self) -> io::Result<Option<Sent>> {
        let Some(decoder) = self.packed.take() else { return Ok(None) };
        let rest = decoder.finish().map_err(damaged)?;
        if rest.is_empty() { Ok(None) } else { self.count(rest.into()).map(Some) }
    }

    fn count(&mut self, bytes: Bytes) -> io::Result<Sent> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left =
            left.ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "the request is too long"))?;
        Ok(Sent { bytes, took: std::mem::take(&mut self.took) })
    }
}

fn damaged(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::TryStreamExt;

    const LIMIT: u64 = 1_000_000;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(encoding: &str, parts: Vec<Vec<u8>>) -> Result<Vec<u8>, io::ErrorKind> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
        let sent = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let body = Body::from_stream(stream::iter(
            parts.into_iter().map(|part| Ok::<_, io::Error>(Bytes::from(part))),
        ));
        let parts = decoded(&headers, body, LIMIT).unwrap();
        let mut largest = 0;
        let parts = parts.inspect_ok(|part| largest = largest.max(part.bytes.len()));
        let all: Vec<Sent> = parts.try_collect().await.map_err(|error| error.kind())?;
        let took = all.iter().map(|part| part.took).sum::<u64>();
        // The end of gzip's own comes after the last part.
        assert!((sent.saturating_sub(STEP as u64)..=sent).contains(&took), "{took} of {sent} bytes");
        let all: Vec<Bytes> = all.into_iter().map(|part| part.bytes).collect();
        assert!(encoding == "identity" || largest <= 1032 * STEP + 64 * 1024, "{largest} bytes at once");
        Ok(all.concat())
    }

    #[tokio::test]
    async fn what_is_packed_is_unpacked_and_what_is_not_passes() {
        let data: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let packed = gzip(&data);
        for size in [1, 7, 4096, packed.len()] {
            let parts = packed.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(read("gzip", parts).await.unwrap(), data);
        }
        assert_eq!(read("identity", vec![b"a".to_vec(), Vec::new(), b"b".to_vec()]).await.unwrap(), b"ab");
        assert_eq!(read("gzip", vec![gzip(b"")]).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_body_is_at_most_as_long_as_it_may_be() {
        let edge = vec![7; LIMIT as usize];
        assert_eq!(read("gzip", vec![gzip(&edge)]).await.unwrap(), edge);
        assert_eq!(read("identity", vec![edge.clone()]).await.unwrap(), edge);
        let over = vec![7; LIMIT as usize + 1];
        assert_eq!(read("gzip", vec![gzip(&over)]).await, Err(io::ErrorKind::FileTooLarge));
        assert_eq!(read("identity", vec![over]).await, Err(io::ErrorKind::FileTooLarge));
        // Fifty times the limit in one small part.
        assert_eq!(read("gzip", vec![gzip(&vec![0; 50_000_000])]).await, Err(io::ErrorKind::FileTooLarge));
    }

    #[tokio::test]
    async fn what_is_no_gzip_or_only_half_of_one_fails() {
        let packed = gzip(b"some bytes that are packed");
        let half = packed[..packed.len() - 9].to_vec();
        assert!(read("gzip", vec![half]).await.is_err());
        assert!(read("gzip", vec![b"0032want ".to_vec()]).await.is_err());
        let mut wrong = packed.clone();
        let sum = wrong.len() - 6;
        wrong[sum] ^= 1;
        assert!(read("gzip", vec![wrong]).await.is_err());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "br".parse().unwrap());
        assert!(decoded(&headers, Body::empty(), 9).is_err());
    }
}
