// node bench.mjs CHUNK EVENTS MILLIS: measures eventsource-parser and JSON.parse on stream.sse and stream.ndjson.
import { readFileSync } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import { createParser } from 'eventsource-parser'

const [chunk, events, millis] = process.argv.slice(2).map(Number)

const chunks = (stream) =>
  Array.from({ length: Math.ceil(stream.length / chunk) }, (_, i) => stream.subarray(i * chunk, (i + 1) * chunk))

function sse(pieces, onEvent) {
  const decoder = new StringDecoder('utf8')
  const parser = createParser({ onEvent })
  for (const piece of pieces) parser.feed(decoder.write(piece))
}

function parse(pieces) {
  let seen = 0
  sse(pieces, () => seen++)
  return seen
}

function hop(pieces) {
  let seen = 0
  let out = 0
  sse(pieces, ({ event, data }) => {
    out += Buffer.from(JSON.stringify({ type: event, data: JSON.parse(data) }) + '\n').length
    seen++
  })
  return out > 0 ? seen : 0
}

function decode(pieces) {
  const decoder = new StringDecoder('utf8')
  let seen = 0
  let rest = ''
  for (const piece of pieces) {
    const lines = (rest + decoder.write(piece)).split('\n')
    rest = lines.pop()
    for (const line of lines) if (JSON.parse(line).type) seen++
  }
  return seen
}

function measure(path, name, run, stream) {
  const pieces = chunks(stream)
  let best = Infinity
  const deadline = performance.now() + millis
  for (let pass = 0; pass < 3 || performance.now() < deadline; pass++) {
    const start = performance.now()
    const seen = run(pieces)
    best = Math.min(best, performance.now() - start)
    if (seen !== events) throw new Error(`${name} saw ${seen} events of ${events}`)
  }
  const seconds = best / 1000
  return { path, name, events_per_second: events / seconds, bytes_per_second: stream.length / seconds }
}

const stream = readFileSync('stream.sse')
const ndjson = readFileSync('stream.ndjson')
const node = `Node ${process.versions.node.split('.')[0]}`
console.log(
  JSON.stringify([
    measure('SSE parse', `${node} eventsource-parser`, parse, stream),
    measure('SSE to NDJSON', `${node} eventsource-parser + JSON`, hop, stream),
    measure('NDJSON decode', `${node} JSON.parse`, decode, ndjson),
  ]),
)
