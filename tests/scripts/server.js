// Node's http or https server that writes one line to standard output per request: server.js [CERT KEY].
'use strict';
const fs = require('fs');
const [cert, key] = process.argv.slice(2);

function serve(request, response) {
  request.resume();
  request.on('end', () => {
    response.on('finish', () => fs.writeSync(1, `${request.method} ${request.url}\n`));
    response.end('ok\n');
  });
}

const server = cert
  ? require('https').createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, serve)
  : require('http').createServer(serve);
server.keepAliveTimeout = 60000;
server.listen(0, '127.0.0.1', () => fs.writeSync(2, `LISTEN ${server.address().port}\n`));
