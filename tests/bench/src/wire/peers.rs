//! What users could pick instead.

use std::{borrow::Cow, convert::Infallible};

use bytes::{Bytes, BytesMut};
use eventsource_stream::Eventsource;
use futures::{FutureExt, Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio_util::codec::{Decoder, LinesCodec};

use super::measure::{Contender, Path};

pub(crate) fn contenders() -> Vec<Contender> {
    let parse = |name, run| Contender { path: Path::Parse, name, run };
    let hop = |name, run| Contender { path: Path::Hop, name, run };
    let decode = |name, run| Contender { path: Path::Decode, name, run };
    vec![
        parse("eventsource-stream", |chunks| eventsource_stream(chunks, ignore)),
        parse("sse-core", |chunks| sse_core(chunks, ignore)),
        parse("sse-stream", |chunks| sse_stream(chunks, ignore)),
        parse("sseer", |chunks| sseer(chunks, ignore)),
        hop("eventsource-stream + Value", |chunks| eventsource_stream(chunks, value)),
        hop("sse-core + Value", |chunks| sse_core(chunks, value)),
        hop("sse-core + RawValue", |chunks| sse_core(chunks, raw_value)),
        hop("sse-core + sonic-rs", |chunks| sse_core(chunks, sonic)),
        hop("sse-core + simd-json", |chunks| sse_core(chunks, simd)),
        hop("sse-stream + Value", |chunks| sse_stream(chunks, value)),
        hop("sseer + RawValue", |chunks| sseer(chunks, raw_value)),
        decode("serde_json Value", |chunks| lines(chunks, line_as_value)),
        decode("serde_json RawValue", |chunks| lines(chunks, line_as_raw_value)),
        decode("sonic-rs", |chunks| lines(chunks, line_by_sonic)),
        decode("simd-json", |chunks| lines(chunks, line_by_simd)),
        decode("LinesCodec (lines only)", lines_codec),
        decode("LinesCodec + Value", lines_codec_value),
    ]
}

/// What becomes of a frame: its name, its data, the output.
type OnFrame = fn(&str, &str, &mut Vec<u8>) -> bool;

fn ignore(_: &str, data: &str, _: &mut Vec<u8>) -> bool {
    std::hint::black_box(data);
    true
}

#[derive(Serialize)]
struct Out<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: T,
}

fn write<T: Serialize>(kind: &str, data: T, out: &mut Vec<u8>) -> bool {
    let written = serde_json::to_writer(&mut *out, &Out { kind, data }).is_ok();
    out.push(b'\n');
    written
}

fn value(kind: &str, data: &str, out: &mut Vec<u8>) -> bool {
    serde_json::from_str::<Value>(data).is_ok_and(|data| write(kind, data, out))
}

fn raw_value(kind: &str, data: &str, out: &mut Vec<u8>) -> bool {
    serde_json::from_str::<&RawValue>(data).is_ok_and(|data| write(kind, data, out))
}

fn sonic(kind: &str, data: &str, out: &mut Vec<u8>) -> bool {
    let Ok(data) = sonic_rs::from_str::<sonic_rs::Value>(data) else {
        return false;
    };
    let written = sonic_rs::to_writer(&mut *out, &Out { kind, data }).is_ok();
    out.push(b'\n');
    written
}

fn simd(kind: &str, data: &str, out: &mut Vec<u8>) -> bool {
    let mut data = data.as_bytes().to_vec();
    let Ok(data) = simd_json::to_borrowed_value(&mut data) else {
        return false;
    };
    let written = simd_json::to_writer(&mut *out, &Out { kind, data }).is_ok();
    out.push(b'\n');
    written
}

/// Counts the frames for which `on_frame` succeeds; the output is handed over often, as to a socket.
struct Sink {
    on_frame: OnFrame,
    out: Vec<u8>,
    events: usize,
}

impl Sink {
    fn new(on_frame: OnFrame) -> Self {
        Sink { on_frame, out: Vec::with_capacity(256 * 1024), events: 0 }
    }

    fn take(&mut self, kind: &str, data: &str) {
        self.events += usize::from((self.on_frame)(kind, data, &mut self.out));
        if self.out.len() > 128 * 1024 {
            std::hint::black_box(&self.out);
            self.out.clear();
        }
    }
}

fn source(chunks: &[Bytes]) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::iter(chunks.iter().cloned().map(Ok))
}

/// Runs a stream that is always ready to its end.
fn drain<T, E>(frames: impl Stream<Item = Result<T, E>>, mut take: impl FnMut(T)) {
    let all = frames.for_each(|frame| {
        if let Ok(frame) = frame {
            take(frame);
        }
        std::future::ready(())
    });
    assert!(all.now_or_never().is_some());
}

fn eventsource_stream(chunks: &[Bytes], on_frame: OnFrame) -> usize {
    let mut sink = Sink::new(on_frame);
    drain(source(chunks).eventsource(), |event| {
        sink.take(&event.event, &event.data);
    });
    sink.events
}

fn sse_core(chunks: &[Bytes], on_frame: OnFrame) -> usize {
    let mut sink = Sink::new(on_frame);
    let mut decoder = sse_core::SseDecoder::new();
    for chunk in chunks {
        let mut rest = &chunk[..];
        while let Some(Ok(event)) = decoder.next(&mut rest) {
            if let sse_core::SseEvent::Message(message) = event {
                sink.take(&message.event, &message.data);
            }
        }
    }
    sink.events
}

fn sse_stream(chunks: &[Bytes], on_frame: OnFrame) -> usize {
    let mut sink = Sink::new(on_frame);
    let frames = sse_stream::SseByteStream::new(source(chunks));
    drain(frames, |event| {
        let kind = event.event.as_deref().unwrap_or("message");
        sink.take(kind, event.data.as_deref().unwrap_or_default());
    });
    sink.events
}

fn sseer(chunks: &[Bytes], on_frame: OnFrame) -> usize {
    let mut sink = Sink::new(on_frame);
    drain(sseer::EventStream::new(source(chunks)), |event| {
        sink.take(&event.event, &event.data);
    });
    sink.events
}

/// Splits lines as simply as can be, and counts those that `read` takes.
fn lines(chunks: &[Bytes], read: fn(&[u8]) -> bool) -> usize {
    let mut rest: Vec<u8> = Vec::new();
    let mut events = 0;
    for chunk in chunks {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            let line = &chunk[start..end];
            start = end + 1;
            let read = if rest.is_empty() {
                read(line)
            } else {
                rest.extend_from_slice(line);
                read(&rest)
            };
            rest.clear();
            events += usize::from(read);
        }
        rest.extend_from_slice(&chunk[start..]);
    }
    events
}

fn line_as_value(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|value| value["type"].is_string())
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

fn line_as_raw_value(line: &[u8]) -> bool {
    serde_json::from_slice::<Raw<'_>>(line)
        .is_ok_and(|raw| !raw.kind.is_empty() && !raw.data.get().is_empty())
}

fn line_by_sonic(line: &[u8]) -> bool {
    use sonic_rs::JsonValueTrait;
    sonic_rs::from_slice::<sonic_rs::Value>(line).is_ok_and(|value| value["type"].is_str())
}

fn line_by_simd(line: &[u8]) -> bool {
    use simd_json::prelude::ValueObjectAccess;
    let mut line = line.to_vec();
    simd_json::to_borrowed_value(&mut line).is_ok_and(|value| value.get("type").is_some())
}

fn lines_codec(chunks: &[Bytes]) -> usize {
    codec(chunks, |line| {
        std::hint::black_box(line);
        true
    })
}

fn lines_codec_value(chunks: &[Bytes]) -> usize {
    codec(chunks, |line| line_as_value(line.as_bytes()))
}

fn codec(chunks: &[Bytes], read: fn(&str) -> bool) -> usize {
    let mut codec = LinesCodec::new();
    let mut buffer = BytesMut::new();
    let mut events = 0;
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        while let Ok(Some(line)) = codec.decode(&mut buffer) {
            events += usize::from(read(&line));
        }
    }
    events
}
