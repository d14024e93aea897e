// Makes requests with Node and prints "DONE n": client.js http|fetch URL COUNT. Eight at a time.
'use strict';
const [kind, base, text] = process.argv.slice(2);
const count = Number(text);
const body = 'GET /inside-a-body HTTP/1.1\r\nHost: x\r\n\r\n';
const library = require(base.startsWith('https') ? 'https' : 'http');
const agent = new library.Agent({ keepAlive: true, maxSockets: 8 });

function byHttp(n) {
  const method = ['GET', 'POST', 'HEAD'][n % 3];
  return new Promise((resolve, reject) => {
    const request = library.request(`${base}/node/http`, { method, agent }, (response) => {
      response.resume();
      response.on('end', () => (response.statusCode === 200 ? resolve() : reject(response.statusCode)));
    });
    request.on('error', reject);
    request.end(method === 'POST' ? body : undefined);
  });
}

async function byFetch(n) {
  const response = await fetch(`${base}/node/fetch`, n % 2 ? { method: 'POST', body } : {});
  await response.text();
  if (response.status !== 200) throw new Error(`status ${response.status}`);
}

(async () => {
  let next = 0;
  await Promise.all(Array.from({ length: 8 }, async () => {
    while (next < count) await (kind === 'http' ? byHttp : byFetch)(next++);
  }));
  agent.destroy();
  process.stdout.write(`DONE ${count}\n`, () => process.exit(0));
})().catch((why) => { console.error(why); process.exit(1); });
