// The same route in Node: node relay.mjs LINES SECONDS
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const lines = readFileSync(process.argv[2], 'utf8').split('\n');
const pace = Number(process.argv[3]) * 1000;

const server = createServer(async (request, response) => {
  for await (const _ of request);
  if (request.url === '/api/sessions') {
    response.setHeader('content-type', 'application/json');
    response.end('{"sessionId":"relay"}');
    return;
  }
  response.setHeader('content-type', 'application/x-ndjson');
  for (const [at, line] of lines.entries()) {
    if (at === 0 || at === lines.length - 1) {
      response.write(`${line}\n`);
    } else {
      await sleep(pace);
      const sentAt = Math.round((performance.timeOrigin + performance.now()) * 1000);
      response.write(`${line.slice(0, -1)},"sentAt":${sentAt}}\n`);
    }
  }
  response.end();
});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
process.on('SIGTERM', () => process.exit(0));
